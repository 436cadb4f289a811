/* SPDX-License-Identifier: Apache-2.0 */
/* sower generate: completions of prompts. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/log.h"

#include <string.h>

enum { CHUNK_BATCHES = 8 }; /* rows are answered and printed in chunks of so many batches */

static const char *input_file, *max_new_text, *temperature_text, *seed_text, *stop, *system_text;
static bool is_chat;

static const sow_flag flags[] = {
    {"input", 'i', "F.jsonl", "rows {id, prompt or ids}; - or nothing: stdin", &input_file, NULL},
    {"max-new", 'n', "N", "longest completion in tokens (64)", &max_new_text, NULL},
    {"temperature", 't', "T", "of sampling; 0, the default: greedy", &temperature_text, NULL},
    {"seed", 's', "S", "of sampling (1); a row's draws depend on seed, row and position only", &seed_text, NULL},
    {"stop", 0, "TEXT", "ends a completion; its text is cut before it", &stop, NULL},
    {"chat", 'c', NULL, "wraps a prompt in the model's chat format", NULL, &is_chat},
    {"system", 0, "TEXT", "system turn of --chat; none by default", &system_text, NULL},
    {0},
};

typedef struct generation {
    const sow_app *app;
    sow_loaded model;
    sow_input input;    /* rows; none with a PROMPT */
    const char *prompt; /* of the command line, or NULL */
    int64_t max_new, seed, n_rows;
    double temperature;
    sow_ids ids;             /* of a chunk's prompts, one after the other */
    int64_t *starts;         /* owned, [chunk + 1] */
    sow_prompt *prompts;     /* owned, [chunk] */
    sow_completion *answers; /* owned, [chunk] */
    sow_words text;
    sow_line *line;
} generation;

static sow_code encode_text(generation *g, const char *text, size_t bytes, const char *where)
{
    int64_t before = g->ids.n;
    int32_t start = 0;
    SOW_TRY(sow_loaded_need_tokenizer(&g->model, g->app->words[0]));
    if (is_chat) {
        sow_words_clear(&g->text);
        SOW_TRY(sow_chat_wrap(g->model.chat, system_text, text, bytes, &g->text));
        text = g->text.text;
        bytes = g->text.bytes;
    }
    if (sow_tokenizer_encode(g->model.tokenizer, text, bytes, true, &g->ids) != SOW_OK)
        return SOW_FAIL(SOW_EFORMAT, "%s: prompt: %s", where, sow_error_text());
    if (g->ids.n > before)
        return SOW_OK;
    SOW_TRY(sow_loaded_start_token(&g->model, where, &start));
    return sow_ids_add(&g->ids, start);
}

static sow_code encode_row(generation *g, int64_t i)
{
    char where[SOW_TEXT] = "PROMPT";
    const char *text = g->prompt;
    size_t bytes = text == NULL ? 0 : strlen(text);
    int64_t before = g->ids.n, room = g->model.layout->shape.max_positions;
    if (g->prompt == NULL)
        sow_input_where(&g->input, i, where);
    const sow_json *row = g->prompt == NULL ? g->input.rows[i].json : NULL;
    if (sow_json_get(row, "ids") != NULL) {
        if (is_chat)
            return SOW_FAIL(SOW_EFORMAT, "%s: ids: cannot be wrapped in a chat format, expected prompt", where);
        SOW_TRY(sow_input_ids(row, "ids", where, g->model.layout->shape.vocab_size, &g->ids));
    } else {
        if (row != NULL)
            SOW_TRY(sow_input_text(row, "prompt", where, &text, &bytes));
        SOW_TRY(encode_text(g, text, bytes, where));
    }
    int64_t n = g->ids.n - before;
    if (n < 1 || n >= room)
        return SOW_FAIL(SOW_EFORMAT, "%s: the prompt has %lld tokens, expected 1 to %lld", where, (long long)n,
                        (long long)room - 1);
    return SOW_OK;
}

/* The text of a completion, cut before the stop string. */
static sow_code decode(generation *g, const sow_completion *answer)
{
    sow_words_clear(&g->text);
    SOW_TRY(sow_words_add(&g->text, "", 0));
    if (g->model.tokenizer == NULL)
        return SOW_OK;
    SOW_TRY(sow_tokenizer_decode(g->model.tokenizer, answer->ids, answer->n, true, &g->text));
    const char *end = stop == NULL ? NULL : strstr(g->text.text, stop);
    if (end != NULL)
        g->text.bytes = (size_t)(end - g->text.text);
    return SOW_OK;
}

static sow_code print_answer(generation *g, int64_t i, const sow_completion *answer)
{
    SOW_TRY(decode(g, answer));
    if (!g->app->is_json)
        return sow_app_put(g->text.text, g->text.bytes);
    sow_input_begin(g->line, g->prompt == NULL ? g->input.rows[i].json : NULL);
    sow_line_string_n(g->line, "text", g->text.text, g->text.bytes);
    sow_input_put_ids(g->line, "ids", answer->ids, answer->n);
    sow_line_begin_array(g->line, "logprobs");
    for (int64_t k = 0; k < answer->n; k++)
        sow_line_real(g->line, NULL, (double)answer->logprobs[k]);
    sow_line_end_array(g->line);
    sow_line_end_object(g->line);
    return sow_app_print(g->line);
}

static sow_code answer_chunk(generation *g, int64_t first, int64_t n)
{
    g->ids.n = 0;
    for (int64_t i = 0; i < n; i++) {
        g->starts[i] = g->ids.n;
        SOW_TRY(encode_row(g, first + i));
    }
    g->starts[n] = g->ids.n;
    for (int64_t i = 0; i < n; i++)
        g->prompts[i] = (sow_prompt){.ids = g->ids.ids + g->starts[i], .n = g->starts[i + 1] - g->starts[i]};
    SOW_TRY(sow_engine_generate(g->model.engine,
                                &(sow_generate_args){.replica = g->model.replica,
                                                     .prompts = g->prompts,
                                                     .n_prompts = n,
                                                     .max_new = g->max_new,
                                                     .want_logprobs = true,
                                                     .stop = stop,
                                                     .tokenizer = g->model.tokenizer,
                                                     .temperature = g->temperature,
                                                     .seed = (uint32_t)g->seed,
                                                     .first_prompt = first},
                                g->answers));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(print_answer(g, first + i, &g->answers[i]));
    return SOW_OK;
}

static sow_code answer_all(generation *g, int64_t chunk)
{
    chunk = chunk < g->n_rows ? chunk : g->n_rows;
    SOW_TRY(SOW_ALLOC(&g->starts, chunk + 1));
    SOW_TRY(SOW_ALLOC(&g->prompts, chunk));
    SOW_TRY(SOW_ALLOC(&g->answers, chunk));
    SOW_TRY(sow_line_create(&g->line));
    for (int64_t first = 0; first < g->n_rows; first += chunk) {
        SOW_TRY(answer_chunk(g, first, g->n_rows - first < chunk ? g->n_rows - first : chunk));
        if (first + chunk < g->n_rows)
            sow_log_progress(30, "%lld/%lld rows", (long long)(first + chunk), (long long)g->n_rows);
    }
    sow_log_progress(0, "%s", "");
    return SOW_OK;
}

/* What the command line says: numbers, and what does not go together. */
static sow_code read_flags(generation *g)
{
    g->max_new = 64;
    g->seed = 1;
    SOW_TRY(sow_args_int("max-new", max_new_text, 0, 1000000, &g->max_new));
    SOW_TRY(sow_args_int("seed", seed_text, 0, UINT32_MAX, &g->seed));
    SOW_TRY(sow_args_real("temperature", temperature_text, 0, 1e6, &g->temperature));
    if (g->temperature > 0 && g->temperature < 1e-6)
        return SOW_FAIL(SOW_EARG, "--temperature: %g is not right, expected 0 or a number from 1e-6 to 1e6",
                        g->temperature);
    if (stop != NULL && stop[0] == '\0')
        return SOW_FAIL(SOW_EARG, "--stop: is empty, expected a text");
    if (system_text != NULL && !is_chat)
        return SOW_FAIL(SOW_EARG, "--system: means nothing without --chat");
    if (g->prompt != NULL && input_file != NULL)
        return SOW_FAIL(SOW_EARG, "%s: a PROMPT does not go with --input", g->prompt);
    return SOW_OK;
}

static sow_code generate(generation *g, const sow_options *o)
{
    const char *path = g->app->words[0];
    SOW_TRY(read_flags(g));
    if (g->prompt == NULL)
        SOW_TRY(sow_input_load(input_file, &g->input));
    g->n_rows = g->prompt == NULL ? g->input.n : 1;
    SOW_TRY(sow_loaded_open(path, o, &g->model));
    if (is_chat && g->model.chat == NULL)
        return SOW_FAIL(SOW_EARG, "--chat: %s shows no chat format that is known", path);
    if (stop != NULL)
        SOW_TRY(sow_loaded_need_tokenizer(&g->model, path));
    return g->n_rows == 0 ? SOW_OK : answer_all(g, CHUNK_BATCHES * o->generate.batch);
}

static sow_code run(sow_app *app)
{
    sow_options options;
    generation g = {.app = app, .prompt = app->n_words == 2 ? app->words[1] : NULL};
    SOW_TRY(sow_app_options(app, &options));
    sow_code rc = generate(&g, &options);
    sow_line_destroy(&g.line);
    sow_words_fini(&g.text);
    sow_ids_fini(&g.ids);
    SOW_FREE(&g.starts);
    SOW_FREE(&g.prompts);
    SOW_FREE(&g.answers);
    sow_loaded_fini(&g.model);
    sow_input_fini(&g.input);
    return rc;
}

const sow_command sow_command_generate = {
    .name = "generate",
    .doc = "completions of prompts",
    .usage = "MODEL [PROMPT | --input F.jsonl] [options]",
    .examples = "  sower generate models/sprout 'cd 7 11 2 20='\n"
                "  sower generate MODEL --input prompts.jsonl --max-new 256 > answers.jsonl\n"
                "  sower generate MODEL 'Why is the sky blue?' --chat --temperature 0.7 --seed 3\n"
                "  sower generate MODEL --input prompts.jsonl --set model.dtype=f32 --set run.threads=2\n",
    .has_sets = true,
    .min_words = 1,
    .max_words = 2,
    .flags = flags,
    .run = run,
};
