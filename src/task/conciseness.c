/* SPDX-License-Identifier: Apache-2.0 */
/* Conciseness (Qiu et al., arXiv 2509.24372): say no more than the reference does.
 *
 * reward = -|characters of the completion - characters of the reference|: dense, so that it moves any model.  A
 * character is a code point; each maximal ill-formed piece counts as one, as it would when decoded with
 * replacement.  Correct means reward 0: the length is right, whatever is said.
 *
 * Rows: "Solve: A + B =" with A and B from 1 to task.operand_max (20), reference the sum; or {"prompt", "reference"}
 * from a file.  Key: the prompt. */
#include "task_impl.h"

#include "sower/alloc.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST = 100 /* tokens, as in the paper's code */, OPERAND_MAX = 20 };

typedef struct file_row {
    sow_span prompt, reference, place; /* place: "FILE:LINE" */
} file_row;

struct sow_task_state {
    int64_t operand_max;
    sow_row_source source;
    bool is_from_file;
    file_row *rows; /* owned */
    int64_t n_rows, rows_capacity;
    sow_words pool;
};

static int64_t max_new(const sow_task_options *options)
{
    (void)options;
    return LONGEST;
}

static bool draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    const sow_task_state *s = how;
    sow_line_item *line = item;
    uint32_t n = (uint32_t)s->operand_max;
    int a = 1 + (int)sow_random_below(random, n), b = 1 + (int)sow_random_below(random, n);
    (void)snprintf(line->prompt, sizeof line->prompt, "Solve: %d + %d =", a, b);
    (void)snprintf(line->answer, sizeof line->answer, "%d", a + b);
    (void)snprintf(key, SOW_KEY_BYTES, "%s", line->prompt);
    return true;
}

static sow_code add_row(void *owner, const sow_json *row, const char *what, bool is_kept)
{
    sow_task_state *s = owner;
    const char *prompt = NULL, *reference = NULL;
    file_row kept;
    SOW_TRY(sow_row_prompt(row, what, &prompt));
    SOW_TRY(sow_row_string(row, "reference", what, true, &reference));
    if (!is_kept)
        return SOW_OK;
    SOW_TRY(sow_span_add(&s->pool, prompt, strlen(prompt), &kept.prompt));
    SOW_TRY(sow_span_add(&s->pool, reference, strlen(reference), &kept.reference));
    SOW_TRY(sow_span_add(&s->pool, what, strlen(what), &kept.place));
    SOW_TRY(SOW_GROW(&s->rows, &s->rows_capacity, s->n_rows));
    s->rows[s->n_rows++] = kept;
    return SOW_OK;
}

static void close_rows(sow_task_state **state)
{
    if (*state != NULL) {
        SOW_FREE(&(*state)->rows);
        sow_words_fini(&(*state)->pool);
    }
    SOW_FREE(state);
}

static sow_code open_rows(const sow_task_options *options, const char *file, size_t file_bytes, sow_task_state **out)
{
    sow_code rc = SOW_OK;
    sow_task_state *s = NULL;
    if (options->operand_max < 0 || options->operand_max > 1000)
        return SOW_FAIL(SOW_ECONF, "task.operand_max: %lld is outside [0, 1000]", (long long)options->operand_max);
    SOW_TRY(SOW_ALLOC(&s, 1));
    s->operand_max = options->operand_max == 0 ? OPERAND_MAX : options->operand_max;
    s->source = sow_row_source_of("conciseness", options);
    s->is_from_file = file != NULL;
    if (s->is_from_file)
        SOW_TRY_OR(rc, sow_rows_read(options->file, file, file_bytes, s->source.is_test, add_row, s));
    *out = s;
    s = NULL;
done:
    close_rows(&s);
    return rc;
}

static int64_t n_rows(const sow_task_state *s)
{
    if (!s->is_from_file)
        return INT64_MAX;
    return s->n_rows > s->source.offset ? s->n_rows - s->source.offset : 0;
}

/* A row's texts; `item` is room for a generated one. */
static sow_code find_row(const sow_task_state *s, int64_t row, sow_line_item *item, const char **prompt,
                         size_t *prompt_bytes, const char **reference, size_t *reference_bytes)
{
    char key[SOW_KEY_BYTES];
    if (s->is_from_file) {
        const file_row *kept = &s->rows[s->source.offset + row];
        const char *pool = s->pool.text;
        *prompt = pool + kept->prompt.at;
        *prompt_bytes = kept->prompt.bytes;
        *reference = pool + kept->reference.at;
        *reference_bytes = kept->reference.bytes;
        return SOW_OK;
    }
    SOW_TRY(sow_row_draw(&s->source, row, draw, s, item, key));
    *prompt = item->prompt;
    *prompt_bytes = strlen(item->prompt);
    *reference = item->answer;
    *reference_bytes = strlen(item->answer);
    return SOW_OK;
}

static bool place_of(const sow_task_state *s, int64_t row, const char **text, size_t *bytes)
{
    if (!s->is_from_file)
        return false;
    const sow_span *place = &s->rows[s->source.offset + row].place;
    *text = s->pool.text + place->at;
    *bytes = place->bytes;
    return true;
}

static sow_code ask(sow_task_state *s, int64_t row, sow_words *out)
{
    sow_line_item item;
    const char *prompt = NULL, *reference = NULL;
    size_t prompt_bytes = 0, reference_bytes = 0;
    SOW_TRY(find_row(s, row, &item, &prompt, &prompt_bytes, &reference, &reference_bytes));
    return sow_words_add(out, prompt, prompt_bytes);
}

static sow_code solve(sow_task_state *s, int64_t row, sow_words *out)
{
    sow_line_item item;
    const char *prompt = NULL, *reference = NULL;
    size_t prompt_bytes = 0, reference_bytes = 0;
    SOW_TRY(find_row(s, row, &item, &prompt, &prompt_bytes, &reference, &reference_bytes));
    return sow_words_add(out, reference, reference_bytes);
}

/* Bytes of the character at p, or of the ill-formed piece that a decoder replaces by one (Unicode 15, table 3-7 and
 * "maximal subparts"). */
static size_t step(const unsigned char *p, size_t left)
{
    unsigned char c = p[0], low = 0x80, high = 0xbf;
    size_t n = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 1;
    low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : low;   /* no overlong forms */
    high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : high; /* no surrogates, nothing above U+10FFFF */
    size_t i = 1;
    for (; i < n && i < left && p[i] >= low && p[i] <= high; i++) {
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

static int64_t characters(const char *text, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; n++)
        i += step((const unsigned char *)text + i, bytes - i);
    return n;
}

static sow_grade grade_of(const char *completion, size_t bytes, const char *reference, size_t reference_bytes)
{
    int64_t n = characters(completion, bytes), wanted = characters(reference, reference_bytes);
    int64_t off = n > wanted ? n - wanted : wanted - n;
    return (sow_grade){.reward = off == 0 ? 0 : -(double)off, .is_correct = off == 0, .parts = {(double)n}};
}

static sow_code grade(sow_task_state *s, int64_t row, const char *completion, size_t bytes, sow_grade *out)
{
    sow_line_item item;
    const char *prompt = NULL, *reference = NULL;
    size_t prompt_bytes = 0, reference_bytes = 0;
    SOW_TRY(find_row(s, row, &item, &prompt, &prompt_bytes, &reference, &reference_bytes));
    *out = grade_of(completion, bytes, reference, reference_bytes);
    return SOW_OK;
}

static sow_code grade_json(const sow_task_options *options, const sow_json *row, const char *what, sow_grade *out)
{
    const char *reference = NULL, *response = NULL;
    size_t reference_bytes = 0, bytes = 0;
    (void)options;
    SOW_TRY(sow_row_text(row, "reference", what, &reference, &reference_bytes));
    SOW_TRY(sow_row_text(row, "response", what, &response, &bytes));
    *out = grade_of(response, bytes, reference, reference_bytes);
    return SOW_OK;
}

const sow_task_kind sow_task_kind_conciseness = {
    .name = "conciseness",
    .doc = "say no more than the reference: minus the difference in characters (arXiv 2509.24372)",
    .parts = {"characters"},
    .max_new = max_new,
    .open = open_rows,
    .close = close_rows,
    .n_rows = n_rows,
    .ask = ask,
    .solve = solve,
    .key = ask,
    .grade = grade,
    .place = place_of,
    .grade_json = grade_json,
};
