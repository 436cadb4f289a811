/* SPDX-License-Identifier: Apache-2.0 */
/* Your own rows, from JSON lines: {"prompt": "...", "answer": "...", "split": "test"}; for supervised training also
 * {"prompt": "...", "completion": "..."} and tokens, {"ids": [5, 17, 3], "prompt_tokens": 2}.
 *
 * task.match says when a completion is right:
 *     exact     it equals the answer, blanks around both aside
 *     numeric   its last number equals the answer
 *     regex     the answer is a regular expression (pcre2, UTF-8) that matches somewhere in it
 * "answer" is a string; for exact it may be a whole number, for numeric any number.  "solution" may give a completion
 * that is right, where the answer itself is none (regex); "completion", what supervised training teaches, is another
 * name for it, and for exact the answer too where no other is given.  Key: the prompt. */
#include "task_impl.h"

#include "sower/alloc.h"
#include "sower/pattern.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST = 256 /* tokens */ };

typedef enum match { MATCH_EXACT, MATCH_NUMERIC, MATCH_REGEX } match;

/* An answer, ready to compare with. */
typedef struct answer {
    double number;        /* numeric */
    sow_pattern *pattern; /* regex; owned */
} answer;

typedef struct file_row {
    sow_span prompt, text, solution, place; /* solution: no bytes if not given; place: "FILE:LINE" */
    answer answer;
    int64_t first_id, n_ids, n_prompt; /* of state->ids; n_ids 0: a row of texts */
    bool is_completion;                /* what `solution` holds was given as completion */
} file_row;

/* What a line gives; texts and ids borrowed from it. */
typedef struct line {
    const char *prompt, *text, *solution, *place;
    const sow_json *ids;
    int64_t n_prompt;
    bool is_completion;
    char room[SOW_LINE_BYTES];
} line;

struct sow_task_state {
    match match;
    int64_t offset;
    file_row *rows; /* owned */
    int64_t n_rows, capacity;
    int32_t *ids; /* owned */
    int64_t n_ids, ids_capacity;
    sow_words pool;
};

static int64_t max_new(const sow_task_options *options)
{
    (void)options;
    return LONGEST;
}

static match match_of(const sow_task_options *options)
{
    return strcmp(options->match, "regex") == 0     ? MATCH_REGEX
           : strcmp(options->match, "numeric") == 0 ? MATCH_NUMERIC
                                                    : MATCH_EXACT;
}

/* The answer's text; `room` holds it where it was written as a number. */
static sow_code read_answer(const sow_json *row, const char *what, match how, char room[SOW_LINE_BYTES],
                            const char **out)
{
    const sow_json *node = sow_json_get(row, "answer");
    sow_json_kind kind = sow_json_kind_of(node);
    int64_t whole = 0;
    double real = 0;
    *out = room;
    if (kind == SOW_JSON_INT && how != MATCH_REGEX && sow_json_to_int(node, &whole)) {
        (void)snprintf(room, SOW_LINE_BYTES, "%lld", (long long)whole);
        return SOW_OK;
    }
    if (kind == SOW_JSON_REAL && how == MATCH_NUMERIC && sow_json_to_real(node, &real)) {
        (void)snprintf(room, SOW_LINE_BYTES, "%.17g", real);
        return SOW_OK;
    }
    return sow_row_string(row, "answer", what, true, out);
}

static sow_code prepare(match how, const char *text, const char *what, answer *out)
{
    answer made = {0};
    if (how == MATCH_NUMERIC && !sow_number_whole(text, strlen(text), &made.number))
        return SOW_FAIL(SOW_EFORMAT, "%s: answer: '%.80s' is no number, expected one since task.match is numeric", what,
                        text);
    if (how == MATCH_REGEX && sow_pattern_compile(text, false, &made.pattern) != SOW_OK)
        return SOW_FAIL(SOW_EFORMAT, "%s: answer: %s", what, sow_error_text());
    *out = made;
    return SOW_OK;
}

static sow_code keep_ids(sow_task_state *s, const line *l, file_row *kept)
{
    kept->first_id = s->n_ids;
    kept->n_ids = l->ids == NULL ? 0 : sow_json_size(l->ids);
    kept->n_prompt = l->n_prompt;
    for (int64_t i = 0; i < kept->n_ids; i++) {
        int64_t id = 0;
        SOW_ASSERT(sow_json_to_int(sow_json_at(l->ids, i), &id));
        SOW_TRY(SOW_GROW(&s->ids, &s->ids_capacity, s->n_ids));
        s->ids[s->n_ids++] = (int32_t)id;
    }
    return SOW_OK;
}

static sow_code keep_row(sow_task_state *s, const line *l, answer *made)
{
    file_row kept = {.is_completion = l->is_completion};
    const char *const texts[4] = {l->prompt, l->text, l->solution, l->place};
    sow_span *const spans[4] = {&kept.prompt, &kept.text, &kept.solution, &kept.place};
    for (int i = 0; i < 4; i++)
        if (texts[i] != NULL)
            SOW_TRY(sow_span_add(&s->pool, texts[i], strlen(texts[i]), spans[i]));
    SOW_TRY(keep_ids(s, l, &kept));
    SOW_TRY(SOW_GROW(&s->rows, &s->capacity, s->n_rows));
    kept.answer = *made;
    made->pattern = NULL;
    s->rows[s->n_rows++] = kept;
    return SOW_OK;
}

/* {"ids": [...], "prompt_tokens": n} */
static sow_code read_ids(const sow_json *row, line *l)
{
    l->ids = sow_json_get(row, "ids");
    int64_t n = sow_json_kind_of(l->ids) == SOW_JSON_ARRAY ? sow_json_size(l->ids) : 0, id = 0;
    if (sow_json_get(row, "prompt") != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: ids: is given beside prompt, expected one of them", l->place);
    if (n < 2)
        return SOW_FAIL(SOW_EFORMAT, "%s: ids: is no array of at least two tokens", l->place);
    for (int64_t i = 0; i < n; i++)
        if (!sow_json_to_int(sow_json_at(l->ids, i), &id) || id < 0 || id > INT32_MAX)
            return SOW_FAIL(SOW_EFORMAT, "%s: ids: item %lld is no token, expected a whole number from 0 on", l->place,
                            (long long)i);
    if (!sow_json_to_int(sow_json_get(row, "prompt_tokens"), &l->n_prompt) || l->n_prompt < 1 || l->n_prompt >= n)
        return SOW_FAIL(SOW_EFORMAT, "%s: prompt_tokens: is missing or no number from 1 to %lld, one less than the ids",
                        l->place, (long long)n - 1);
    return SOW_OK;
}

/* The answer; a completion stands for it where there is none. */
static sow_code read_wanted(const sow_json *row, match how, line *l)
{
    bool has_one = sow_json_get(row, "answer") != NULL, has_other = sow_json_get(row, "completion") != NULL;
    if (!has_one && !has_other)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: answer: is missing, expected one to compare with, or completion for supervised training",
                        l->place);
    if (how == MATCH_EXACT && !has_one)
        return sow_row_string(row, "completion", l->place, true, &l->text);
    return read_answer(row, l->place, how, l->room, &l->text);
}

static sow_code read_texts(const sow_json *row, match how, line *l)
{
    const char *completion = NULL;
    SOW_TRY(sow_row_prompt(row, l->place, &l->prompt));
    SOW_TRY(read_wanted(row, how, l));
    SOW_TRY(sow_row_string(row, "completion", l->place, false, &completion));
    SOW_TRY(sow_row_string(row, "solution", l->place, false, &l->solution));
    if (completion != NULL && l->solution != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: solution: is given beside completion, expected one of them", l->place);
    l->is_completion = completion != NULL;
    l->solution = l->is_completion ? completion : l->solution;
    return SOW_OK;
}

static sow_code add_row(void *owner, const sow_json *row, const char *what, bool is_kept)
{
    sow_task_state *s = owner;
    line l = {.place = what};
    answer made = {0};
    if (sow_json_get(row, "ids") != NULL) {
        SOW_TRY(read_ids(row, &l));
    } else {
        SOW_TRY(read_texts(row, s->match, &l));
        SOW_TRY(prepare(s->match, l.text, what, &made));
    }
    sow_code rc = is_kept ? keep_row(s, &l, &made) : SOW_OK;
    sow_pattern_destroy(&made.pattern);
    return rc;
}

static void close_rows(sow_task_state **state)
{
    if (*state != NULL) {
        for (int64_t i = 0; i < (*state)->n_rows; i++)
            sow_pattern_destroy(&(*state)->rows[i].answer.pattern);
        SOW_FREE(&(*state)->rows);
        SOW_FREE(&(*state)->ids);
        sow_words_fini(&(*state)->pool);
    }
    SOW_FREE(state);
}

static sow_code open_rows(const sow_task_options *options, const char *file, size_t file_bytes, sow_task_state **out)
{
    sow_code rc = SOW_OK;
    sow_task_state *s = NULL;
    if (file == NULL)
        return SOW_FAIL(SOW_ECONF,
                        "task.file: is missing, expected JSON lines of {\"prompt\", \"answer\"} for task jsonl");
    SOW_TRY(SOW_ALLOC(&s, 1));
    s->match = match_of(options);
    s->offset = options->offset;
    SOW_TRY_OR(rc, sow_rows_read(options->file, file, file_bytes, sow_split_is_test(options), add_row, s));
    *out = s;
    s = NULL;
done:
    close_rows(&s);
    return rc;
}

static int64_t n_rows(const sow_task_state *s)
{
    return s->n_rows > s->offset ? s->n_rows - s->offset : 0;
}

static const file_row *row_at(const sow_task_state *s, int64_t row)
{
    return &s->rows[s->offset + row];
}

static sow_code need_texts(const sow_task_state *s, const file_row *r)
{
    if (r->n_ids == 0)
        return SOW_OK;
    return SOW_FAIL(SOW_EARG,
                    "%.*s: is a row of ids, which is for supervised training alone; expected prompt and answer",
                    (int)r->place.bytes, s->pool.text + r->place.at);
}

static sow_code ask(sow_task_state *s, int64_t row, sow_words *out)
{
    const file_row *r = row_at(s, row);
    SOW_TRY(need_texts(s, r));
    return sow_words_add(out, s->pool.text + r->prompt.at, r->prompt.bytes);
}

static bool ids_of(const sow_task_state *s, int64_t row, const int32_t **ids, int64_t *n, int64_t *n_prompt)
{
    const file_row *r = row_at(s, row);
    if (r->n_ids == 0)
        return false;
    *ids = s->ids + r->first_id;
    *n = r->n_ids;
    *n_prompt = r->n_prompt;
    return true;
}

static bool place_of(const sow_task_state *s, int64_t row, const char **text, size_t *bytes)
{
    const file_row *r = row_at(s, row);
    *text = s->pool.text + r->place.at;
    *bytes = r->place.bytes;
    return true;
}

/* The prompt, as text or as numbers. */
static sow_code key(sow_task_state *s, int64_t row, sow_words *out)
{
    const file_row *r = row_at(s, row);
    if (r->n_ids == 0)
        return ask(s, row, out);
    for (int64_t i = 0; i < r->n_prompt; i++)
        SOW_TRY(sow_words_print(out, "%s%d", i == 0 ? "" : " ", (int)s->ids[r->first_id + i]));
    return SOW_OK;
}

typedef struct piece {
    const char *text;
    size_t bytes;
} piece;

static piece trim(const char *text, size_t bytes)
{
    static const char blanks[] = " \t\r\n\v\f";
    while (bytes > 0 && text[0] != '\0' && strchr(blanks, text[0]) != NULL) {
        text++;
        bytes--;
    }
    while (bytes > 0 && text[bytes - 1] != '\0' && strchr(blanks, text[bytes - 1]) != NULL)
        bytes--;
    return (piece){text, bytes};
}

static bool is_right(match how, const answer *wanted, piece text, const char *completion, size_t bytes)
{
    double number = 0;
    if (how == MATCH_NUMERIC)
        return sow_number_last(completion, bytes, &number) && number == wanted->number;
    if (how == MATCH_REGEX)
        return sow_pattern_find(wanted->pattern, completion, bytes, 0, 0, NULL);
    piece said = trim(completion, bytes);
    text = trim(text.text, text.bytes);
    return said.bytes == text.bytes && (said.bytes == 0 || memcmp(said.text, text.text, said.bytes) == 0);
}

static sow_grade grade_of(bool is_correct)
{
    return (sow_grade){.reward = is_correct ? 1 : 0, .is_correct = is_correct};
}

static sow_code grade(sow_task_state *s, int64_t row, const char *completion, size_t bytes, sow_grade *out)
{
    const file_row *r = row_at(s, row);
    piece text = {s->pool.text + r->text.at, r->text.bytes};
    SOW_TRY(need_texts(s, r));
    *out = grade_of(is_right(s->match, &r->answer, text, completion, bytes));
    return SOW_OK;
}

static sow_code solve(sow_task_state *s, int64_t row, sow_words *out)
{
    const file_row *r = row_at(s, row);
    bool has_own = r->is_completion || r->solution.bytes > 0;
    const sow_span *best = has_own ? &r->solution : &r->text;
    piece text = {s->pool.text + r->text.at, r->text.bytes};
    SOW_TRY(need_texts(s, r));
    if (!is_right(s->match, &r->answer, text, s->pool.text + best->at, best->bytes))
        return SOW_FAIL(SOW_EARG, "%.*s: %s: %s, expected a completion that is right by task.match",
                        (int)r->place.bytes, s->pool.text + r->place.at, r->is_completion ? "completion" : "solution",
                        has_own ? "is not right" : "is missing");
    return sow_words_add(out, s->pool.text + best->at, best->bytes);
}

static sow_code grade_json(const sow_task_options *options, const sow_json *row, const char *what, sow_grade *out)
{
    const char *response = NULL;
    size_t bytes = 0;
    line l = {.place = what};
    answer wanted = {0};
    match how = match_of(options);
    SOW_TRY(read_wanted(row, how, &l));
    SOW_TRY(sow_row_text(row, "response", what, &response, &bytes));
    SOW_TRY(prepare(how, l.text, what, &wanted));
    *out = grade_of(is_right(how, &wanted, (piece){l.text, strlen(l.text)}, response, bytes));
    sow_pattern_destroy(&wanted.pattern);
    return SOW_OK;
}

const sow_task_kind sow_task_kind_jsonl = {
    .name = "jsonl",
    .doc = "your own prompts with exact, numeric or regex answers, from JSON lines",
    .needs_file = true,
    .max_new = max_new,
    .open = open_rows,
    .close = close_rows,
    .n_rows = n_rows,
    .ask = ask,
    .solve = solve,
    .key = key,
    .grade = grade,
    .grade_json = grade_json,
    .ids = ids_of,
    .place = place_of,
};
