/* SPDX-License-Identifier: Apache-2.0 */
/* sower tokenize: text to ids and back. */
#include "app_impl.h"

#include "sower/alloc.h"

#include <string.h>

static const char *input_file;
static bool is_decode, has_special;

static const sow_flag flags[] = {
    {"input", 'i', "F.jsonl", "rows {id, text}, with --decode {id, ids}; - or nothing: stdin", &input_file, NULL},
    {"decode", 'd', NULL, "ids to text", NULL, &is_decode},
    {"special", 's', NULL, "with the special tokens that the model puts around a text; they stay when decoding", NULL,
     &has_special},
    {0},
};

static sow_code encode_row(sow_tokenizer *tokenizer, const sow_json *row, const char *where, sow_line *line,
                           sow_ids *ids)
{
    const char *text = NULL;
    size_t bytes = 0;
    SOW_TRY(sow_input_text(row, "text", where, &text, &bytes));
    ids->n = 0;
    SOW_TRY(sow_tokenizer_encode(tokenizer, text, bytes, has_special, ids));
    sow_input_put_ids(line, "ids", ids->ids, ids->n);
    return SOW_OK;
}

static sow_code decode_row(sow_tokenizer *tokenizer, const sow_json *row, const char *where, sow_line *line,
                           sow_ids *ids, sow_words *text)
{
    ids->n = 0;
    sow_words_clear(text);
    SOW_TRY(sow_input_ids(row, "ids", where, sow_tokenizer_size(tokenizer), ids));
    SOW_TRY(sow_words_add(text, "", 0));
    SOW_TRY(sow_tokenizer_decode(tokenizer, ids->ids, ids->n, !has_special, text));
    sow_line_string_n(line, "text", text->text, text->bytes);
    return SOW_OK;
}

static sow_code run_rows(sow_tokenizer *tokenizer)
{
    sow_input input = {0};
    sow_line *line = NULL;
    sow_ids ids = {0};
    sow_words text = {0};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_input_load(input_file, &input));
    SOW_TRY_OR(rc, sow_line_create(&line));
    for (int64_t i = 0; i < input.n; i++) {
        char where[SOW_TEXT];
        sow_input_where(&input, i, where);
        sow_input_begin(line, input.rows[i].json);
        SOW_TRY_OR(rc, is_decode ? decode_row(tokenizer, input.rows[i].json, where, line, &ids, &text)
                                 : encode_row(tokenizer, input.rows[i].json, where, line, &ids));
        sow_line_end_object(line);
        SOW_TRY_OR(rc, sow_app_print(line));
    }
done:
    sow_words_fini(&text);
    sow_ids_fini(&ids);
    sow_line_destroy(&line);
    sow_input_fini(&input);
    return rc;
}

/* One text of the command line: its ids, and for people the text of each. */
static sow_code run_text(sow_tokenizer *tokenizer, const char *text, bool is_json)
{
    sow_ids ids = {0};
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_tokenizer_encode(tokenizer, text, strlen(text), has_special, &ids));
    SOW_TRY_OR(rc, sow_line_create(&line));
    if (is_json) {
        sow_line_begin_object(line, NULL);
        sow_input_put_ids(line, "ids", ids.ids, ids.n);
        sow_line_end_object(line);
        SOW_TRY_OR(rc, sow_app_print(line));
    }
    for (int64_t i = 0; !is_json && i < ids.n; i++) {
        const char *shown = NULL;
        size_t bytes = 0;
        const char *content = sow_tokenizer_bytes(tokenizer, ids.ids[i], &bytes);
        sow_line_clear(line);
        sow_line_string_n(line, NULL, content == NULL ? "" : content, bytes);
        SOW_TRY_OR(rc, sow_line_text(line, &shown));
        SOW_TRY_OR(rc, sow_app_say("%8d  %s\n", ids.ids[i], shown));
    }
done:
    sow_line_destroy(&line);
    sow_ids_fini(&ids);
    return rc;
}

static sow_code run(sow_app *app)
{
    sow_tokenizer *tokenizer = NULL;
    if (app->n_words == 2 && (is_decode || input_file != NULL))
        return SOW_FAIL(SOW_EARG, "%s: a TEXT does not go with --%s", app->words[1], is_decode ? "decode" : "input");
    SOW_TRY(sow_app_tokenizer(app->words[0], &tokenizer));
    sow_code rc = app->n_words == 2 ? run_text(tokenizer, app->words[1], app->is_json) : run_rows(tokenizer);
    sow_tokenizer_destroy(&tokenizer);
    return rc;
}

const sow_command sow_command_tokenize = {
    .name = "tokenize",
    .doc = "text to token ids, and back",
    .usage = "MODEL [TEXT | --input F.jsonl] [--decode] [--special]",
    .examples = "  sower tokenize models/sprout 'cd 7 11 2 20='\n"
                "  sower tokenize tokenizer.json --input texts.jsonl\n"
                "  echo '{\"id\": 1, \"ids\": [99, 100]}' | sower tokenize models/sprout --decode\n",
    .min_words = 1,
    .max_words = 2,
    .flags = flags,
    .run = run,
};
