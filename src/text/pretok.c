/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers: cutting the text into pieces that are tokenized each by itself. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <string.h>

/* How GPT-2 cuts words (Radford et al. 2019, encoder.py). */
#define GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct kind {
    const char *type, *keys;
    sow_code (*read)(const sow_json *node, const char *where, text_pretok_step *step);
    /* Appends the pieces of one piece.  is_start: it stands at the very beginning. */
    sow_code (*apply)(const text_pretok_step *step, text_pretok *scratch, const char *text, size_t bytes, bool is_start,
                      text_pieces *out);
} kind;

typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;

struct text_pretok_step {
    const kind *kind;
    text_matcher matcher;
    text_behavior behavior;
    bool is_inverted;
    bool is_cutting; /* ByteLevel: use_regex; Metaspace: split */
    prepend_scheme prepend;
};

/* ---- Split, Digits ---- */

static sow_code read_split(const sow_json *node, const char *where, text_pretok_step *step)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    SOW_TRY(sow_text_get_string(node, where, "behavior", &name, NULL));
    int i = 0;
    while (i < TEXT_N_BEHAVIORS && strcmp(name, names[i]) != 0)
        i++;
    if (i == TEXT_N_BEHAVIORS)
        return SOW_FAIL(
            SOW_EFORMAT,
            "%s.behavior: '%.100s' is unknown; known are: Removed, Isolated, MergedWithPrevious, MergedWithNext, "
            "Contiguous",
            where, name);
    step->behavior = (text_behavior)i;
    SOW_TRY(sow_text_get_bool(node, where, "invert", &step->is_inverted));
    return sow_text_matcher_read(node, where, &step->matcher);
}

static sow_code read_digits(const sow_json *node, const char *where, text_pretok_step *step)
{
    bool is_individual = false;
    SOW_TRY(sow_text_get_bool(node, where, "individual_digits", &is_individual));
    step->behavior = is_individual ? TEXT_ISOLATED : TEXT_CONTIGUOUS;
    step->matcher.is_char = sow_text_is_numeric;
    return SOW_OK;
}

/* Begins a piece at the end of the text; end_piece makes it one if it is not empty. */
static size_t begin_piece(const text_pieces *pieces)
{
    return pieces->text.bytes;
}

static sow_code end_piece(text_pieces *pieces, size_t start)
{
    if (pieces->text.bytes == start)
        return SOW_OK;
    SOW_TRY(SOW_GROW(&pieces->pieces, &pieces->capacity, pieces->n));
    pieces->pieces[pieces->n++] = (text_piece){start, pieces->text.bytes - start};
    return SOW_OK;
}

static sow_code add_piece(text_pieces *pieces, const char *text, size_t bytes)
{
    size_t start = begin_piece(pieces);
    SOW_TRY(sow_words_add(&pieces->text, text, bytes));
    return end_piece(pieces, start);
}

static sow_code apply_split(const text_pretok_step *step, text_pretok *scratch, const char *text, size_t bytes,
                            bool is_start, text_pieces *out)
{
    (void)is_start;
    SOW_TRY(sow_text_matcher_find(&step->matcher, text, bytes, &scratch->spans));
    sow_text_spans_fold(&scratch->spans, step->behavior, step->is_inverted);
    for (int64_t i = 0; i < scratch->spans.n; i++) {
        text_span span = scratch->spans.spans[i];
        SOW_TRY(add_piece(out, text + span.start, span.end - span.start));
    }
    return SOW_OK;
}

/* ---- ByteLevel: cut as GPT-2 does, and write bytes as characters ---- */

static sow_code read_byte_level(const sow_json *node, const char *where, text_pretok_step *step)
{
    bool has_prefix_space = true;
    SOW_TRY(sow_text_get_bool(node, where, "add_prefix_space", &has_prefix_space));
    step->prepend = has_prefix_space ? PREPEND_ALWAYS : PREPEND_NEVER;
    step->is_cutting = true;
    SOW_TRY(sow_text_get_bool(node, where, "use_regex", &step->is_cutting));
    if (!step->is_cutting)
        return SOW_OK;
    return sow_text_matcher_regex(GPT2_WORDS, strlen(GPT2_WORDS), where, &step->matcher);
}

static sow_code add_bytes(text_pieces *pieces, const char *text, size_t bytes)
{
    size_t start = begin_piece(pieces);
    SOW_TRY(sow_text_from_bytes(text, bytes, &pieces->text));
    return end_piece(pieces, start);
}

static sow_code apply_byte_level(const text_pretok_step *step, text_pretok *scratch, const char *text, size_t bytes,
                                 bool is_start, text_pieces *out)
{
    (void)is_start;
    if (step->prepend == PREPEND_ALWAYS && text[0] != ' ') {
        sow_words_clear(&scratch->changed);
        SOW_TRY(sow_words_add(&scratch->changed, " ", 1));
        SOW_TRY(sow_words_add(&scratch->changed, text, bytes));
        text = scratch->changed.text;
        bytes = scratch->changed.bytes;
    }
    if (!step->is_cutting)
        return add_bytes(out, text, bytes);
    SOW_TRY(sow_text_matcher_find(&step->matcher, text, bytes, &scratch->spans));
    for (int64_t i = 0; i < scratch->spans.n; i++) {
        text_span span = scratch->spans.spans[i];
        SOW_TRY(add_bytes(out, text + span.start, span.end - span.start));
    }
    return SOW_OK;
}

/* ---- Metaspace: spaces become a visible character, at which the text may be cut ---- */

static sow_code read_metaspace(const sow_json *node, const char *where, text_pretok_step *step)
{
    const char *text = NULL, *scheme = "always";
    size_t bytes = 0;
    SOW_TRY(sow_text_get_string(node, where, "replacement", &text, &bytes));
    if (sow_json_get(node, "prepend_scheme") != NULL)
        SOW_TRY(sow_text_get_string(node, where, "prepend_scheme", &scheme, NULL));
    static const char *const names[] = {"always", "first", "never"};
    int i = 0;
    while (i < 3 && strcmp(scheme, names[i]) != 0)
        i++;
    if (i == 3)
        return SOW_FAIL(SOW_EFORMAT, "%s.prepend_scheme: '%.100s' is unknown; known are: always, first, never", where,
                        scheme);
    step->prepend = (prepend_scheme)i;
    bool has_prefix_space = step->prepend != PREPEND_NEVER;
    SOW_TRY(sow_text_get_bool(node, where, "add_prefix_space", &has_prefix_space));
    if (!has_prefix_space && step->prepend != PREPEND_NEVER)
        return SOW_FAIL(SOW_EFORMAT, "%s.add_prefix_space: is false, but prepend_scheme is '%s'", where, scheme);
    step->is_cutting = true;
    SOW_TRY(sow_text_get_bool(node, where, "split", &step->is_cutting));
    size_t at = 0;
    if (bytes > 0)
        (void)sow_text_char(text, &at);
    if (bytes == 0 || at != bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s.replacement: is not one character", where);
    step->behavior = TEXT_MERGED_WITH_NEXT;
    return sow_text_matcher_literal(text, bytes, &step->matcher);
}

static sow_code apply_metaspace(const text_pretok_step *step, text_pretok *scratch, const char *text, size_t bytes,
                                bool is_start, text_pieces *out)
{
    const text_matcher *mark = &step->matcher;
    sow_words *changed = &scratch->changed;
    sow_words_clear(changed);
    bool has_mark = text[0] == ' ' || (bytes >= mark->bytes && memcmp(text, mark->literal, mark->bytes) == 0);
    if (!has_mark && (step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && is_start)))
        SOW_TRY(sow_words_add(changed, mark->literal, mark->bytes));
    for (size_t i = 0; i < bytes; i++) {
        bool is_space = text[i] == ' ';
        SOW_TRY(sow_words_add(changed, is_space ? mark->literal : text + i, is_space ? mark->bytes : 1));
    }
    if (!step->is_cutting)
        return add_piece(out, changed->text, changed->bytes);
    return apply_split(step, scratch, changed->text, changed->bytes, is_start, out);
}

static const kind kinds[] = {
    {"ByteLevel", "type add_prefix_space trim_offsets use_regex", read_byte_level, apply_byte_level},
    {"Digits", "type individual_digits", read_digits, apply_split},
    {"Metaspace", "type replacement prepend_scheme add_prefix_space split str_rep", read_metaspace, apply_metaspace},
    {"Split", "type pattern behavior invert", read_split, apply_split},
};

static sow_code visit(const sow_json *component, const char *type, const char *where, void *context)
{
    text_pretok *out = context;
    const char *names[sizeof kinds / sizeof *kinds];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        names[i] = kinds[i].type;
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        SOW_TRY(sow_text_check_keys(component, where, kinds[i].keys));
        SOW_TRY(SOW_GROW(&out->steps, &out->capacity, out->n));
        text_pretok_step *step = &out->steps[out->n++];
        step->kind = &kinds[i];
        return kinds[i].read(component, where, step);
    }
    return sow_text_fail_type(where, type, names, sizeof kinds / sizeof *kinds);
}

sow_code sow_text_pretok_read(const sow_json *node, const char *where, text_pretok *out)
{
    return sow_text_walk(node, "pretokenizers", where, visit, out);
}

void sow_text_pretok_fini(text_pretok *pretok)
{
    for (int64_t i = 0; i < pretok->n; i++)
        sow_text_matcher_fini(&pretok->steps[i].matcher);
    SOW_FREE(&pretok->steps);
    for (int i = 0; i < 2; i++) {
        sow_words_fini(&pretok->result[i].text);
        SOW_FREE(&pretok->result[i].pieces);
    }
    sow_text_spans_fini(&pretok->spans);
    sow_words_fini(&pretok->changed);
    *pretok = (text_pretok){0};
}

sow_code sow_text_pretok_apply(text_pretok *pretok, const char *text, size_t bytes, bool is_start,
                               const text_pieces **out)
{
    text_pieces *from = &pretok->result[0], *to = &pretok->result[1];
    sow_words_clear(&from->text);
    from->n = 0;
    SOW_TRY(add_piece(from, text, bytes));
    for (int64_t i = 0; i < pretok->n; i++) {
        const text_pretok_step *step = &pretok->steps[i];
        sow_words_clear(&to->text);
        to->n = 0;
        for (int64_t k = 0; k < from->n; k++) {
            text_piece piece = from->pieces[k];
            SOW_TRY(
                step->kind->apply(step, pretok, from->text.text + piece.start, piece.bytes, is_start && k == 0, to));
        }
        text_pieces *swap = from;
        from = to;
        to = swap;
    }
    *out = from;
    return SOW_OK;
}
