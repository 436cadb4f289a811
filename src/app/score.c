/* SPDX-License-Identifier: Apache-2.0 */
/* sower score: log-probabilities of continuations, tokenised as lm-evaluation-harness does (HFLM._encode_pair): blanks
 * that end a context begin the continuation; the continuation's tokens are those of the whole text behind as many as
 * the context alone has; an empty context is the first (else the end) token of the model. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <string.h>

enum { CHUNK_BATCHES = 8 };

static const char *input_file;
static bool has_special;

static const sow_flag flags[] = {
    {"input", 'i', "F.jsonl", "rows {id, context, continuation}, each a text or a list of ids; - or nothing: stdin",
     &input_file, NULL},
    {"special", 's', NULL, "with the special tokens that the model puts before a text", NULL, &has_special},
    {0},
};

typedef struct scoring {
    const sow_app *app;
    sow_loaded model;
    sow_input input;
    sow_ids ids, context; /* of a chunk's rows, one after the other; of one context */
    sow_words whole;
    int64_t *starts;       /* owned, [chunk + 1] */
    sow_score_item *items; /* owned, [chunk] */
    float *logprobs;       /* owned, by id */
    bool *is_greedy;       /* owned, by id */
    int64_t logprobs_capacity, greedy_capacity;
    sow_line *line;
} scoring;

/* Bytes of the character that ends the text if Python's str.rstrip would take it, else 0. */
static size_t space_at_end(const char *text, size_t bytes)
{
    static const char *const spaces[] = {"\t",           "\n",           "\v",           "\f",           "\r",
                                         "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
                                         "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
                                         "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
                                         "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
                                         "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        size_t n = strlen(spaces[i]);
        if (n <= bytes && memcmp(text + bytes - n, spaces[i], n) == 0)
            return n;
    }
    return 0;
}

static sow_code encode(scoring *s, const char *text, size_t bytes, bool is_special, const char *where, sow_ids *out)
{
    if (sow_tokenizer_encode(s->model.tokenizer, text, bytes, is_special, out) != SOW_OK)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s", where, sow_error_text());
    return SOW_OK;
}

/* Appends the ids of the whole; *n_context of them are context. */
static sow_code encode_texts(scoring *s, const sow_json *row, const char *where, int64_t *n_context)
{
    const char *context = NULL, *continuation = NULL;
    size_t context_bytes = 0, continuation_bytes = 0;
    int32_t start = 0;
    SOW_TRY(sow_loaded_need_tokenizer(&s->model, s->app->words[0]));
    SOW_TRY(sow_input_text(row, "context", where, &context, &context_bytes));
    SOW_TRY(sow_input_text(row, "continuation", where, &continuation, &continuation_bytes));
    sow_words_clear(&s->whole);
    SOW_TRY(sow_words_add(&s->whole, context, context_bytes));
    SOW_TRY(sow_words_add(&s->whole, continuation, continuation_bytes));
    for (size_t n = 1; n > 0; context_bytes -= n)
        n = space_at_end(context, context_bytes);
    s->context.n = 0;
    if (context_bytes > 0)
        SOW_TRY(encode(s, context, context_bytes, has_special, where, &s->context));
    *n_context = s->context.n;
    if (s->context.n == 0) {
        SOW_TRY(sow_loaded_start_token(&s->model, where, &start));
        SOW_TRY(sow_ids_add(&s->ids, start));
        *n_context = 1;
    }
    return encode(s, s->whole.text, s->whole.bytes, has_special && s->context.n > 0, where, &s->ids);
}

static sow_code encode_ids(scoring *s, const sow_json *row, const char *where, int64_t *n_context)
{
    int64_t vocab = s->model.layout->shape.vocab_size, before = s->ids.n;
    SOW_TRY(sow_input_ids(row, "context", where, vocab, &s->ids));
    if (s->ids.n == before) {
        int32_t start = 0;
        SOW_TRY(sow_loaded_start_token(&s->model, where, &start));
        SOW_TRY(sow_ids_add(&s->ids, start));
    }
    *n_context = s->ids.n - before;
    return sow_input_ids(row, "continuation", where, vocab, &s->ids);
}

static sow_code encode_row(scoring *s, int64_t i, sow_score_item *out)
{
    char where[SOW_TEXT];
    const sow_json *row = s->input.rows[i].json;
    int64_t before = s->ids.n, n_context = 0, room = s->model.layout->shape.max_positions + 1; /* the last is not fed */
    sow_input_where(&s->input, i, where);
    bool has_ids = sow_json_kind_of(sow_json_get(row, "context")) == SOW_JSON_ARRAY;
    SOW_TRY(has_ids ? encode_ids(s, row, where, &n_context) : encode_texts(s, row, where, &n_context));
    int64_t n = s->ids.n - before;
    if (n <= n_context)
        return SOW_FAIL(SOW_EFORMAT, "%s: continuation: has no token of its own", where);
    if (n > room)
        return SOW_FAIL(SOW_EFORMAT, "%s: context and continuation have %lld tokens, expected at most %lld", where,
                        (long long)n, (long long)room);
    *out = (sow_score_item){.n = n, .n_context = n_context};
    return SOW_OK;
}

static sow_code print_row(scoring *s, int64_t i, const sow_score_item *item)
{
    int64_t n = item->n - item->n_context;
    double sum = 0;
    bool is_greedy = true;
    for (int64_t k = 0; k < n; k++) {
        sum += (double)item->logprobs[k];
        is_greedy = is_greedy && item->is_greedy[k];
    }
    if (!s->app->is_json)
        return sow_app_say("%12.6f  %6lld tokens  %s\n", sum, (long long)n, is_greedy ? "greedy" : "");
    sow_input_begin(s->line, s->input.rows[i].json);
    sow_line_real(s->line, "logprob", sum);
    sow_line_int(s->line, "tokens", n);
    sow_line_begin_array(s->line, "token_logprobs");
    for (int64_t k = 0; k < n; k++)
        sow_line_real(s->line, NULL, (double)item->logprobs[k]);
    sow_line_end_array(s->line);
    sow_line_bool(s->line, "is_greedy", is_greedy);
    sow_line_end_object(s->line);
    return sow_app_print(s->line);
}

static sow_code score_chunk(scoring *s, int64_t first, int64_t n)
{
    s->ids.n = 0;
    for (int64_t i = 0; i < n; i++) {
        s->starts[i] = s->ids.n;
        SOW_TRY(encode_row(s, first + i, &s->items[i]));
    }
    SOW_TRY(SOW_GROW(&s->logprobs, &s->logprobs_capacity, s->ids.n));
    SOW_TRY(SOW_GROW(&s->is_greedy, &s->greedy_capacity, s->ids.n));
    for (int64_t i = 0; i < n; i++) {
        s->items[i].ids = s->ids.ids + s->starts[i];
        s->items[i].logprobs = s->logprobs + s->starts[i];
        s->items[i].is_greedy = s->is_greedy + s->starts[i];
    }
    SOW_TRY(sow_engine_score(s->model.engine, s->model.replica, s->items, n));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(print_row(s, first + i, &s->items[i]));
    return SOW_OK;
}

static sow_code score(scoring *s, const sow_options *o)
{
    int64_t chunk = CHUNK_BATCHES * o->generate.batch;
    SOW_TRY(sow_input_load(input_file, &s->input));
    SOW_TRY(sow_loaded_open(s->app->words[0], o, &s->model));
    SOW_TRY(SOW_ALLOC(&s->starts, chunk + 1));
    SOW_TRY(SOW_ALLOC(&s->items, chunk));
    SOW_TRY(sow_line_create(&s->line));
    for (int64_t first = 0; first < s->input.n; first += chunk) {
        SOW_TRY(score_chunk(s, first, s->input.n - first < chunk ? s->input.n - first : chunk));
        if (first + chunk < s->input.n)
            sow_log_progress(30, "%lld/%lld rows", (long long)(first + chunk), (long long)s->input.n);
    }
    sow_log_progress(0, "%s", "");
    return SOW_OK;
}

static sow_code run(sow_app *app)
{
    sow_options options;
    scoring s = {.app = app};
    SOW_TRY(sow_app_options(app, &options));
    sow_code rc = score(&s, &options);
    sow_line_destroy(&s.line);
    sow_words_fini(&s.whole);
    sow_ids_fini(&s.ids);
    sow_ids_fini(&s.context);
    SOW_FREE(&s.starts);
    SOW_FREE(&s.items);
    SOW_FREE(&s.logprobs);
    SOW_FREE(&s.is_greedy);
    sow_loaded_fini(&s.model);
    sow_input_fini(&s.input);
    return rc;
}

const sow_command sow_command_score = {
    .name = "score",
    .doc = "log-probabilities of given continuations",
    .usage = "MODEL --input F.jsonl [--special]",
    .examples = "  sower score MODEL --input pairs.jsonl > scores.jsonl\n"
                "  echo '{\"id\": 1, \"context\": \"cd 7 11 2 20=\", \"continuation\": \"<7+11+2>\"}' | sower score "
                "models/sprout\n",
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
