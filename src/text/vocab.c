/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary: token <-> id.  All tokens lie one after another in one text; a hash table with open addressing finds
 * them. */
#include "text_impl.h"

#include "sower/alloc.h"
#include "sower/hash.h"

#include <inttypes.h>
#include <string.h>

/* An id may leave some ids unused (models are padded), but not so many that a few bytes of file ask for gigabytes. */
static int64_t highest_id(int64_t n_tokens)
{
    int64_t highest = 4 * n_tokens + 65536;
    return highest < INT32_MAX - 1 ? highest : INT32_MAX - 1;
}

/* The slot that holds the token, or the empty one where it would go. */
static int64_t find_slot(const text_vocab *vocab, const char *token, size_t bytes)
{
    uint64_t mask = (uint64_t)vocab->n_slots - 1;
    uint64_t slot = sow_hash_bytes(token, bytes).low & mask;
    for (;; slot = (slot + 1) & mask) {
        int32_t id = vocab->slots[slot] - 1;
        if (id < 0)
            return (int64_t)slot;
        const text_token *known = &vocab->tokens[id];
        if (known->bytes == bytes && memcmp(vocab->text.text + known->start, token, bytes) == 0)
            return (int64_t)slot;
    }
}

/* Makes the table twice as large when it is half full. */
static sow_code make_room(text_vocab *vocab)
{
    if (2 * (vocab->n_filled + 1) <= vocab->n_slots)
        return SOW_OK;
    int64_t n_slots = vocab->n_slots == 0 ? 1024 : 2 * vocab->n_slots;
    int32_t *slots = NULL;
    SOW_TRY(SOW_ALLOC(&slots, n_slots));
    SOW_FREE(&vocab->slots);
    vocab->slots = slots;
    vocab->n_slots = n_slots;
    for (int64_t id = 0; id < vocab->n; id++) {
        const text_token *token = &vocab->tokens[id];
        if (token->is_used)
            slots[find_slot(vocab, vocab->text.text + token->start, token->bytes)] = (int32_t)id + 1;
    }
    return SOW_OK;
}

static sow_code insert(text_vocab *vocab, const char *token, size_t bytes, int64_t id, bool is_model)
{
    if (id < vocab->n && vocab->tokens[id].is_used) {
        const text_token *other = &vocab->tokens[id];
        return SOW_FAIL(SOW_EFORMAT, "id %" PRId64 " of '%.100s' is also that of '%.*s'", id, token,
                        other->bytes < 100 ? (int)other->bytes : 100, vocab->text.text + other->start);
    }
    SOW_TRY(make_room(vocab));
    SOW_TRY(SOW_GROW(&vocab->tokens, &vocab->capacity, id));
    size_t start = vocab->text.bytes;
    SOW_TRY(sow_words_add(&vocab->text, token, bytes));
    int64_t slot = find_slot(vocab, token, bytes);
    if (vocab->slots[slot] != 0)
        return SOW_FAIL(SOW_EFORMAT, "token '%.100s' is there twice", token);
    vocab->slots[slot] = (int32_t)id + 1;
    vocab->n_filled++;
    vocab->tokens[id] = (text_token){.start = start, .bytes = bytes, .is_used = true, .is_model = is_model};
    if (id >= vocab->n)
        vocab->n = id + 1;
    return SOW_OK;
}

sow_code sow_text_vocab_read(const sow_json *node, const char *where, text_vocab *out)
{
    if (sow_json_kind_of(node) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is missing or no object", where);
    int64_t highest = highest_id(sow_json_size(node));
    void *iterator = NULL;
    const char *token = NULL;
    const sow_json *value = NULL;
    while (sow_json_next(node, &iterator, &token, &value)) {
        int64_t id = 0;
        if (!sow_json_to_int(value, &id))
            return SOW_FAIL(SOW_EFORMAT, "%s: the id of '%.100s' is no whole number", where, token);
        if (id < 0 || id > highest)
            return SOW_FAIL(SOW_EFORMAT, "%s: id %" PRId64 " of '%.100s' is outside [0, %" PRId64 "]", where, id, token,
                            highest);
        sow_code rc = insert(out, token, strlen(token), id, true);
        if (rc == SOW_EFORMAT)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s", where, sow_error_text());
        SOW_TRY(rc);
    }
    out->n_model = out->n_filled;
    return SOW_OK;
}

sow_code sow_text_vocab_add(text_vocab *vocab, const char *token, size_t bytes, int64_t id)
{
    if (id < 0 || id > highest_id(vocab->n_filled + 1))
        return SOW_FAIL(SOW_EFORMAT, "id %" PRId64 " of '%.100s' is outside [0, %" PRId64 "]", id, token,
                        highest_id(vocab->n_filled + 1));
    return insert(vocab, token, bytes, id, false);
}

void sow_text_vocab_fini(text_vocab *vocab)
{
    SOW_FREE(&vocab->slots);
    SOW_FREE(&vocab->tokens);
    sow_words_fini(&vocab->text);
    *vocab = (text_vocab){0};
}

int32_t sow_text_vocab_find(const text_vocab *vocab, const char *token, size_t bytes)
{
    return vocab->n_slots == 0 ? -1 : vocab->slots[find_slot(vocab, token, bytes)] - 1;
}

int32_t sow_text_vocab_find_model(const text_vocab *vocab, const char *token, size_t bytes)
{
    int32_t id = sow_text_vocab_find(vocab, token, bytes);
    return id >= 0 && vocab->tokens[id].is_model ? id : -1;
}

const char *sow_text_vocab_token(const text_vocab *vocab, int64_t id, size_t *bytes)
{
    if (id < 0 || id >= vocab->n || !vocab->tokens[id].is_used)
        return NULL;
    *bytes = vocab->tokens[id].bytes;
    return vocab->text.text + vocab->tokens[id].start;
}
