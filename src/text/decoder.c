/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders: tokens -> text.
 *
 * Steps that look at one token (ByteLevel, Replace, Strip, Metaspace, and whether it is a byte <0xHH>) are done once,
 * for all tokens, when the tokenizer is made.  Decoding then strings these pieces together, turns bytes into whole
 * characters, and drops what a Strip behind Fuse drops from the start. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <string.h>

#define UNKNOWN_CHAR "\xEF\xBF\xBD" /* U+FFFD */

typedef struct decoder_step decoder_step;

typedef struct kind {
    const char *type, *keys;
    sow_code (*read)(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step);
    /* Appends what becomes of a token's text; NULL: the step does nothing to single tokens. */
    sow_code (*apply)(const decoder_step *step, text_spans *spans, const char *text, size_t bytes, sow_words *out);
} kind;

struct decoder_step {
    const kind *kind;
    char *content; /* owned */
    size_t bytes;
    text_matcher matcher;
    int64_t start, stop; /* Strip: characters at most */
};

/* What may still come: per-token steps, then bytes, then Fuse, then one Strip. */
typedef enum stage { STAGE_TOKENS, STAGE_BYTES, STAGE_FUSED, STAGE_STRIPPED } stage;

typedef struct decoded {
    size_t start, bytes;
    bool is_used, is_byte;
} decoded;

struct text_decoder {
    decoder_step *steps; /* owned */
    int64_t n_steps, capacity;
    stage stage;
    bool has_decoder;   /* without one, tokens are joined by spaces */
    bool is_byte_level; /* pieces are bytes, not text */
    bool has_bytes;     /* <0xHH> is a byte */
    bool drops_first;   /* Metaspace: the first token loses its marks */
    decoder_step strip; /* of the whole text */
    decoded *pieces;    /* owned, [n] */
    int64_t n;
    sow_words text;
    sow_words scratch[2];
    text_spans spans;
    const text_vocab *vocab; /* borrowed from the tokenizer, which outlives this; so is `added` */
    const text_added *added;
};

/* ---- kinds of steps ---- */

static sow_code at_tokens(const text_decoder *decoder, const char *where)
{
    if (decoder->stage == STAGE_TOKENS && !decoder->is_byte_level)
        return SOW_OK;
    return SOW_FAIL(SOW_EFORMAT, "%s: is not supported behind ByteLevel, ByteFallback or Fuse", where);
}

static sow_code read_byte_level(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    (void)node, (void)step;
    SOW_TRY(at_tokens(decoder, where));
    decoder->is_byte_level = true;
    return SOW_OK;
}

static sow_code apply_byte_level(const decoder_step *step, text_spans *spans, const char *text, size_t bytes,
                                 sow_words *out)
{
    (void)step, (void)spans;
    return sow_text_to_bytes(text, bytes, out);
}

static sow_code read_byte_fallback(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    (void)node, (void)step;
    SOW_TRY(at_tokens(decoder, where));
    decoder->has_bytes = true;
    decoder->stage = STAGE_BYTES;
    return SOW_OK;
}

static sow_code read_fuse(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    (void)node, (void)step;
    if (decoder->stage >= STAGE_FUSED)
        return SOW_FAIL(SOW_EFORMAT, "%s: a second Fuse is not supported", where);
    decoder->stage = STAGE_FUSED;
    return SOW_OK;
}

static sow_code read_replace(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    SOW_TRY(at_tokens(decoder, where));
    const char *content = NULL;
    SOW_TRY(sow_text_get_string(node, where, "content", &content, &step->bytes));
    SOW_TRY(sow_text_copy(content, step->bytes, &step->content));
    return sow_text_matcher_read(node, where, &step->matcher);
}

static sow_code apply_replace(const decoder_step *step, text_spans *spans, const char *text, size_t bytes,
                              sow_words *out)
{
    return sow_text_matcher_replace(&step->matcher, step->content, step->bytes, spans, text, bytes, out);
}

/* A member that is one character. */
static sow_code get_char(const sow_json *node, const char *where, const char *key, char **out, size_t *out_bytes)
{
    const char *text = NULL;
    size_t bytes = 0, at = 0;
    SOW_TRY(sow_text_get_string(node, where, key, &text, &bytes));
    if (bytes > 0)
        (void)sow_text_char(text, &at);
    if (bytes == 0 || at != bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s.%s: is not one character", where, key);
    *out_bytes = bytes;
    return sow_text_copy(text, bytes, out);
}

static sow_code read_strip(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    SOW_TRY(get_char(node, where, "content", &step->content, &step->bytes));
    SOW_TRY(sow_text_get_int(node, where, "start", 0, INT32_MAX, &step->start));
    SOW_TRY(sow_text_get_int(node, where, "stop", 0, INT32_MAX, &step->stop));
    if (decoder->stage < STAGE_FUSED)
        return at_tokens(decoder, where);
    if (decoder->stage == STAGE_STRIPPED || step->stop > 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: behind Fuse one Strip with stop 0 is supported", where);
    decoder->stage = STAGE_STRIPPED;
    decoder->strip = *step; /* no step of single tokens any more */
    *step = (decoder_step){0};
    decoder->n_steps--;
    return SOW_OK;
}

static bool is_at(const decoder_step *step, const char *text, size_t bytes)
{
    return bytes >= step->bytes && memcmp(text, step->content, step->bytes) == 0;
}

static sow_code apply_strip(const decoder_step *step, text_spans *spans, const char *text, size_t bytes, sow_words *out)
{
    (void)spans;
    for (int64_t i = 0; i < step->start && is_at(step, text, bytes); i++) {
        text += step->bytes;
        bytes -= step->bytes;
    }
    for (int64_t i = 0; i < step->stop && bytes >= step->bytes; i++) {
        if (!is_at(step, text + bytes - step->bytes, step->bytes))
            break;
        bytes -= step->bytes;
    }
    return sow_words_add(out, text, bytes);
}

static sow_code read_metaspace(const sow_json *node, const char *where, text_decoder *decoder, decoder_step *step)
{
    SOW_TRY(at_tokens(decoder, where));
    if (decoder->n_steps > 1)
        return SOW_FAIL(SOW_EFORMAT, "%s: is not supported behind another decoder", where);
    const char *scheme = "always", *text = NULL;
    if (sow_json_get(node, "prepend_scheme") != NULL)
        SOW_TRY(sow_text_get_string(node, where, "prepend_scheme", &scheme, NULL));
    bool has_prefix_space = strcmp(scheme, "never") != 0;
    SOW_TRY(sow_text_get_bool(node, where, "add_prefix_space", &has_prefix_space));
    decoder->drops_first = has_prefix_space;
    size_t bytes = 0;
    SOW_TRY(get_char(node, where, "replacement", &step->content, &bytes));
    text = step->content;
    SOW_TRY(sow_text_matcher_literal(text, bytes, &step->matcher));
    step->content[0] = ' ';
    step->bytes = 1;
    return SOW_OK;
}

static const kind kinds[] = {
    {"ByteLevel", "type add_prefix_space trim_offsets use_regex", read_byte_level, apply_byte_level},
    {"ByteFallback", "type", read_byte_fallback, NULL},
    {"Fuse", "type", read_fuse, NULL},
    {"Metaspace", "type replacement prepend_scheme add_prefix_space split str_rep", read_metaspace, apply_replace},
    {"Replace", "type pattern content", read_replace, apply_replace},
    {"Strip", "type content start stop", read_strip, apply_strip},
};

static sow_code visit(const sow_json *component, const char *type, const char *where, void *context)
{
    text_decoder *decoder = context;
    const char *names[sizeof kinds / sizeof *kinds];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        names[i] = kinds[i].type;
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        SOW_TRY(sow_text_check_keys(component, where, kinds[i].keys));
        SOW_TRY(SOW_GROW(&decoder->steps, &decoder->capacity, decoder->n_steps));
        decoder_step *step = &decoder->steps[decoder->n_steps++];
        step->kind = &kinds[i];
        return kinds[i].read(component, where, decoder, step);
    }
    return sow_text_fail_type(where, type, names, sizeof kinds / sizeof *kinds);
}

/* ---- pieces ---- */

/* What becomes of a token's text; borrowed, valid until the next call. */
static sow_code decode_token(text_decoder *decoder, bool is_first, const char *text, size_t bytes, const char **out,
                             size_t *out_bytes)
{
    int turn = 0; /* a step reads one buffer and writes the other */
    for (int64_t i = 0; i < decoder->n_steps; i++) {
        decoder_step step = decoder->steps[i];
        if (step.kind->apply == NULL)
            continue;
        sow_words *result = &decoder->scratch[turn];
        turn = 1 - turn;
        sow_words_clear(result);
        if (is_first && decoder->drops_first && i == 0)
            step.bytes = 0;
        SOW_TRY(step.kind->apply(&step, &decoder->spans, text, bytes, result));
        text = result->bytes > 0 ? result->text : "";
        bytes = result->bytes;
    }
    *out = text;
    *out_bytes = bytes;
    return SOW_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xHH>", or -1. */
static int byte_of(const char *text, size_t bytes)
{
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static sow_code make_piece(text_decoder *decoder, int64_t id, const char *token, size_t bytes)
{
    const char *text = NULL;
    SOW_TRY(decode_token(decoder, false, token, bytes, &text, &bytes));
    int byte = decoder->has_bytes ? byte_of(text, bytes) : -1;
    char one = (char)byte;
    if (byte >= 0) {
        text = &one;
        bytes = 1;
    }
    size_t start = decoder->text.bytes;
    SOW_TRY(sow_words_add(&decoder->text, text, bytes));
    decoder->pieces[id] = (decoded){start, bytes, true, byte >= 0};
    return SOW_OK;
}

sow_code sow_text_decoder_read(const sow_json *node, const text_vocab *vocab, const text_added *added,
                               const char *where, text_decoder **out)
{
    text_decoder *decoder = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&decoder, 1));
    decoder->vocab = vocab;
    decoder->added = added;
    decoder->n = vocab->n;
    decoder->has_decoder = node != NULL && sow_json_kind_of(node) != SOW_JSON_NULL;
    SOW_TRY_OR(rc, sow_text_walk(node, "decoders", where, visit, decoder));
    SOW_TRY_OR(rc, SOW_ALLOC(&decoder->pieces, vocab->n));
    for (int64_t id = 0; id < vocab->n; id++) {
        size_t bytes = 0;
        const char *token = sow_text_vocab_token(vocab, id, &bytes);
        if (token != NULL)
            SOW_TRY_OR(rc, make_piece(decoder, id, token, bytes));
    }
    /* An added token that is normalized is decoded from its normalized form. */
    for (int64_t i = added->n_sets[0]; i < added->n; i++)
        SOW_TRY_OR(rc, make_piece(decoder, added->tokens[i].id, added->tokens[i].pattern, added->tokens[i].bytes));
    *out = decoder;
    decoder = NULL;
done:
    sow_text_decoder_destroy(&decoder);
    return rc;
}

void sow_text_decoder_destroy(text_decoder **decoder)
{
    text_decoder *d = *decoder;
    if (d == NULL)
        return;
    for (int64_t i = 0; i < d->n_steps; i++) {
        SOW_FREE(&d->steps[i].content);
        sow_text_matcher_fini(&d->steps[i].matcher);
    }
    SOW_FREE(&d->strip.content);
    SOW_FREE(&d->steps);
    SOW_FREE(&d->pieces);
    sow_words_fini(&d->text);
    sow_words_fini(&d->scratch[0]);
    sow_words_fini(&d->scratch[1]);
    sow_text_spans_fini(&d->spans);
    SOW_FREE(decoder);
}

const char *sow_text_decoder_bytes(const text_decoder *decoder, int64_t id, size_t *bytes)
{
    if (id < 0 || id >= decoder->n || !decoder->pieces[id].is_used)
        return NULL;
    *bytes = decoder->pieces[id].bytes;
    return decoder->text.text + decoder->pieces[id].start;
}

/* The piece of a token that comes first, where that differs (Metaspace). */
static sow_code first_piece(text_decoder *decoder, int64_t id, const char **out, size_t *out_bytes)
{
    size_t bytes = 0;
    const char *token = sow_text_vocab_token(decoder->vocab, id, &bytes);
    const text_added *added = decoder->added;
    for (int64_t i = added->n_sets[0]; i < added->n; i++) {
        if (added->tokens[i].id == id) {
            token = added->tokens[i].pattern;
            bytes = added->tokens[i].bytes;
        }
    }
    return decode_token(decoder, true, token, bytes, out, out_bytes);
}

/* ---- decoding ---- */

void sow_text_decoding_begin(text_decoding *decoding, const text_decoder *decoder)
{
    sow_words_clear(&decoding->held);
    decoding->is_begun = false;
    decoding->to_strip = decoder->strip.start;
}

void sow_text_decoding_fini(text_decoding *decoding)
{
    sow_words_fini(&decoding->held);
}

/* Gives out whole characters, less what is stripped from the start. */
static sow_code give(text_decoding *decoding, const text_decoder *decoder, const char *text, size_t bytes,
                     sow_words *out)
{
    while (decoding->to_strip > 0 && bytes > 0) {
        bool is_stripped = is_at(&decoder->strip, text, bytes);
        decoding->to_strip = is_stripped ? decoding->to_strip - 1 : 0;
        text += is_stripped ? decoder->strip.bytes : 0;
        bytes -= is_stripped ? decoder->strip.bytes : 0;
    }
    return sow_words_add(out, text, bytes);
}

static sow_code give_unknown(text_decoding *decoding, const text_decoder *decoder, size_t n, sow_words *out)
{
    for (size_t i = 0; i < n; i++)
        SOW_TRY(give(decoding, decoder, UNKNOWN_CHAR, strlen(UNKNOWN_CHAR), out));
    return SOW_OK;
}

/* Gives out what is held: characters, and U+FFFD for what is none (one for a broken character; behind ByteFallback one
 * for a byte). A character that is cut off at the end stays held, unless is_end. */
static sow_code release(text_decoding *decoding, const text_decoder *decoder, bool is_end, sow_words *out)
{
    sow_words *held = &decoding->held;
    size_t at = 0;
    while (at < held->bytes) {
        bool is_valid = false;
        size_t n = sow_text_scan(held->text + at, held->bytes - at, &is_valid);
        if (n == 0 && !is_end)
            break;
        if (n == 0)
            n = held->bytes - at;
        if (is_valid)
            SOW_TRY(give(decoding, decoder, held->text + at, n, out));
        else
            SOW_TRY(give_unknown(decoding, decoder, decoder->is_byte_level ? 1 : n, out));
        at += n;
    }
    if (at > 0)
        memmove(held->text, held->text + at, held->bytes - at);
    held->bytes -= at;
    return SOW_OK;
}

/* The end of a run of byte tokens: if is_whole, one byte that fits no character spoils them all. */
static sow_code end_run(text_decoding *decoding, const text_decoder *decoder, bool is_whole, sow_words *out)
{
    sow_words *held = &decoding->held;
    if (is_whole && !sow_words_is_utf8(held->text, held->bytes)) {
        size_t n = held->bytes;
        held->bytes = 0;
        return give_unknown(decoding, decoder, n, out);
    }
    return release(decoding, decoder, true, out);
}

sow_code sow_text_decoding_put(text_decoding *decoding, text_decoder *decoder, int64_t id, bool is_whole,
                               sow_words *out)
{
    size_t bytes = 0;
    const char *piece = sow_text_decoder_bytes(decoder, id, &bytes);
    if (piece == NULL)
        return SOW_OK;
    bool is_first = !decoding->is_begun;
    decoding->is_begun = true;
    if (decoder->is_byte_level) {
        SOW_TRY(sow_words_add(&decoding->held, piece, bytes));
        return release(decoding, decoder, false, out);
    }
    if (decoder->pieces[id].is_byte) {
        SOW_TRY(sow_words_add(&decoding->held, piece, bytes));
        return is_whole ? SOW_OK : release(decoding, decoder, false, out);
    }
    if (decoding->held.bytes > 0)
        SOW_TRY(end_run(decoding, decoder, is_whole, out));
    if (!decoder->has_decoder && !is_first)
        SOW_TRY(sow_words_add(out, " ", 1));
    if (is_first && decoder->drops_first)
        SOW_TRY(first_piece(decoder, id, &piece, &bytes));
    return give(decoding, decoder, piece, bytes, out);
}

sow_code sow_text_decoding_end(text_decoding *decoding, const text_decoder *decoder, sow_words *out)
{
    if (decoding->held.bytes == 0)
        return SOW_OK;
    return decoder->is_byte_level ? release(decoding, decoder, true, out) : end_run(decoding, decoder, true, out);
}
