/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer and the chat template inside a GGUF.  Its lists of strings are copied, since they are not terminated
 * there. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

/* A list of strings: one block of text, pointers into it, and the bytes of each. */
typedef struct string_list {
    char *text;         /* owned */
    const char **items; /* owned */
    size_t *bytes;      /* owned */
    int64_t n;
} string_list;

static void list_fini(string_list *list)
{
    SOW_FREE(&list->bytes);
    SOW_FREE(&list->items);
    SOW_FREE(&list->text);
}

static sow_code list_read(const sow_gguf *gguf, const char *key, string_list *out)
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    if (entry == NULL || entry->kind != SOW_GGUF_ARRAY || entry->item_kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(gguf, key, entry, "an array of strings");
    size_t total = 0, bytes;
    const unsigned char *at = entry->value;
    for (int64_t i = 0; i < entry->n; i++) {
        const char *text = sow_gguf_next_string(&at, &bytes);
        if (!sow_words_is_utf8(text, bytes) || memchr(text, '\0', bytes) != NULL)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: item %lld is no UTF-8 text", gguf->what, key, (long long)i);
        total += bytes + 1;
    }
    SOW_TRY(SOW_ALLOC(&out->text, total));
    SOW_TRY(SOW_ALLOC(&out->items, entry->n));
    SOW_TRY(SOW_ALLOC(&out->bytes, entry->n));
    out->n = entry->n;
    char *put = out->text;
    at = entry->value;
    for (int64_t i = 0; i < entry->n; i++) {
        const char *text = sow_gguf_next_string(&at, &bytes);
        memcpy(put, text, bytes);
        out->items[i] = put;
        out->bytes[i] = bytes;
        put += bytes + 1;
    }
    return SOW_OK;
}

/* The entry of an array with one number per token; NULL if it is not there. */
static sow_code find_numbers(const sow_gguf *gguf, const char *key, int64_t n, const sow_gguf_entry **out)
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    if (entry != NULL &&
        (entry->kind != SOW_GGUF_ARRAY ||
         (entry->item_kind != SOW_GGUF_I32 && entry->item_kind != SOW_GGUF_U32 && entry->item_kind != SOW_GGUF_F32)))
        return sow_gguf_fail_kind(gguf, key, entry, "an array of numbers of 32 bits");
    if (entry != NULL && entry->n != n)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld items is wrong, expected %lld, one for each token", gguf->what, key,
                        (long long)entry->n, (long long)n);
    *out = entry;
    return SOW_OK;
}

/* Kinds of tokens; without a list all are normal (1). */
static sow_code read_types(const sow_gguf *gguf, int64_t n, int32_t **out)
{
    const char *key = "tokenizer.ggml.token_type";
    const sow_gguf_entry *entry = NULL;
    SOW_TRY(find_numbers(gguf, key, n, &entry));
    SOW_TRY(SOW_ALLOC(out, n));
    for (int64_t i = 0; i < n; i++) {
        int64_t type = 1;
        if (entry != NULL && !sow_gguf_to_int(entry->item_kind, entry->value + 4 * i, &type))
            return sow_gguf_fail_kind(gguf, key, entry, "an array of integers");
        if (type < 0 || type > 6)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: item %lld is %lld, expected 0 to 6", gguf->what, key, (long long)i,
                            (long long)type);
        (*out)[i] = (int32_t)type;
    }
    return SOW_OK;
}

static sow_code read_scores(const sow_gguf *gguf, int64_t n, float **out)
{
    const char *key = "tokenizer.ggml.scores";
    const sow_gguf_entry *entry = NULL;
    SOW_TRY(find_numbers(gguf, key, n, &entry));
    if (entry == NULL)
        return SOW_OK;
    SOW_TRY(SOW_ALLOC(out, n));
    for (int64_t i = 0; i < n; i++) {
        double score = 0;
        if (!sow_gguf_to_real(entry->item_kind, entry->value + 4 * i, &score) || !isfinite(score))
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: item %lld is no finite number", gguf->what, key, (long long)i);
        (*out)[i] = (float)score;
    }
    return SOW_OK;
}

/* A short name; `otherwise` if it is not there. */
static sow_code read_name(const sow_gguf *gguf, const char *key, const char *otherwise, char out[64])
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    sow_quoted quoted;
    if (entry == NULL && otherwise != NULL) {
        (void)snprintf(out, 64, "%s", otherwise);
        return SOW_OK;
    }
    if (entry == NULL || entry->kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(gguf, key, entry, "a name");
    if (entry->n > 63 || memchr(entry->value, '\0', (size_t)entry->n) != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %s is no name, expected at most 63 bytes", gguf->what, key,
                        sow_quote((const char *)entry->value, (size_t)entry->n, &quoted));
    memcpy(out, entry->value, (size_t)entry->n);
    out[entry->n] = '\0';
    return SOW_OK;
}

static sow_code read_bool(const sow_gguf *gguf, const char *key, bool otherwise, bool *out)
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    if (entry != NULL && entry->kind != SOW_GGUF_BOOL)
        return sow_gguf_fail_kind(gguf, key, entry, "a truth value");
    *out = entry == NULL ? otherwise : entry->value[0] != 0;
    return SOW_OK;
}

static sow_code make_json(const sow_gguf_vocabulary *vocabulary, const char *what, char **out, size_t *bytes)
{
    sow_tokenizer *tokenizer = NULL;
    char *copy = NULL;
    size_t n = 0;
    sow_code rc = sow_tokenizer_from_gguf(vocabulary, what, &tokenizer);
    if (rc == SOW_EFORMAT && strncmp(sow_error_text(), what, strlen(what)) != 0)
        rc = SOW_FAIL(rc, "%s: %s", what, sow_error_text()); /* what is wrong may be told without the file */
    SOW_TRY(rc);
    const char *json = sow_tokenizer_json(tokenizer, &n);
    rc = SOW_ALLOC(&copy, n + 1);
    if (rc == SOW_OK) {
        memcpy(copy, json, n);
        *out = copy;
        *bytes = n;
    }
    sow_tokenizer_destroy(&tokenizer);
    return rc;
}

sow_code sow_gguf_tokenizer(const sow_gguf *gguf, char **out, size_t *bytes)
{
    sow_code rc = SOW_OK;
    string_list tokens = {0}, merges = {0};
    int32_t *types = NULL;
    float *scores = NULL;
    char model[64], pre[64];
    sow_gguf_vocabulary vocabulary = {.model = model, .pre = pre};
    if (sow_gguf_find(gguf, "tokenizer.ggml.tokens") == NULL)
        return SOW_OK;
    SOW_TRY_OR(rc, read_name(gguf, "tokenizer.ggml.model", NULL, model));
    SOW_TRY_OR(rc, read_name(gguf, "tokenizer.ggml.pre", "default", pre));
    SOW_TRY_OR(rc, list_read(gguf, "tokenizer.ggml.tokens", &tokens));
    if (sow_gguf_find(gguf, "tokenizer.ggml.merges") != NULL)
        SOW_TRY_OR(rc, list_read(gguf, "tokenizer.ggml.merges", &merges));
    SOW_TRY_OR(rc, read_types(gguf, tokens.n, &types));
    SOW_TRY_OR(rc, read_scores(gguf, tokens.n, &scores));
    SOW_TRY_OR(rc, sow_gguf_get_token(gguf, "tokenizer.ggml.bos_token_id", &vocabulary.bos));
    SOW_TRY_OR(rc, sow_gguf_get_token(gguf, "tokenizer.ggml.eos_token_id", &vocabulary.eos));
    /* llama.cpp's own defaults: a sentencepiece model begins with BOS and a blank. */
    bool is_spm = strcmp(model, "llama") == 0;
    SOW_TRY_OR(rc, read_bool(gguf, "tokenizer.ggml.add_bos_token", is_spm, &vocabulary.add_bos));
    SOW_TRY_OR(rc, read_bool(gguf, "tokenizer.ggml.add_space_prefix", is_spm, &vocabulary.add_space_prefix));
    vocabulary.n_tokens = tokens.n;
    vocabulary.n_merges = merges.n;
    vocabulary.tokens = tokens.items;
    vocabulary.token_bytes = tokens.bytes;
    vocabulary.types = types;
    vocabulary.scores = scores;
    vocabulary.merges = merges.items;
    SOW_TRY_OR(rc, make_json(&vocabulary, gguf->what, out, bytes));
done:
    SOW_FREE(&scores);
    SOW_FREE(&types);
    list_fini(&merges);
    list_fini(&tokens);
    return rc;
}

sow_code sow_gguf_chat_template(const sow_gguf *gguf, char **out)
{
    const char *key = "tokenizer.chat_template";
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    char *copy = NULL;
    if (entry == NULL)
        return SOW_OK;
    if (entry->kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(gguf, key, entry, "a text");
    size_t bytes = (size_t)entry->n;
    if (!sow_words_is_utf8(entry->value, bytes) || memchr(entry->value, '\0', bytes) != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no UTF-8 text", gguf->what, key);
    SOW_TRY(SOW_ALLOC(&copy, bytes + 1));
    memcpy(copy, entry->value, bytes);
    *out = copy;
    return SOW_OK;
}
