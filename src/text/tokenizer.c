/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/tokenizer.h"

#include "text_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void sow_ids_fini(sow_ids *ids)
{
    SOW_FREE(&ids->ids);
    *ids = (sow_ids){0};
}

sow_code sow_ids_add(sow_ids *ids, int32_t id)
{
    SOW_TRY(SOW_GROW(&ids->ids, &ids->capacity, ids->n));
    ids->ids[ids->n++] = id;
    return SOW_OK;
}

/* ---- tokenizer.json ---- */

/* The model's part: its vocabulary and merges. */
static sow_code read_model(sow_tokenizer *t, const sow_json *model, const char *what)
{
    char where[512];
    (void)snprintf(where, sizeof where, "%s: model", what);
    if (sow_json_kind_of(model) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is missing or no object", where);
    const char *type = sow_json_to_string(sow_json_get(model, "type"), NULL);
    if (type == NULL && sow_json_get(model, "type") == NULL && sow_json_get(model, "merges") != NULL)
        type = "BPE"; /* files of before 2020 */
    if (type == NULL || strcmp(type, "BPE") != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: type '%.100s' is not supported; BPE is", where, type == NULL ? "" : type);
    char place[600];
    (void)snprintf(place, sizeof place, "%s.vocab", where);
    SOW_TRY(sow_text_vocab_read(sow_json_get(model, "vocab"), place, &t->vocab));
    return sow_text_bpe_read(model, &t->vocab, where, &t->bpe);
}

/* Truncation and padding are not read: they are wishes of whoever saved the file about batches, and transformers
 * overrides both. */
static sow_code read_parts(sow_tokenizer *t, const sow_json *root, const char *what)
{
    if (sow_json_kind_of(root) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is no JSON object", what);
    SOW_TRY(sow_text_check_keys(
        root, what, "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model"));
    const char *version = sow_json_to_string(sow_json_get(root, "version"), NULL);
    if (sow_json_get(root, "version") != NULL && (version == NULL || strcmp(version, "1.0") != 0))
        return SOW_FAIL(SOW_EFORMAT, "%s: version: is not \"1.0\"", what);
    SOW_TRY(read_model(t, sow_json_get(root, "model"), what));
    char where[512];
    (void)snprintf(where, sizeof where, "%s: normalizer", what);
    SOW_TRY(sow_text_normalizer_read(sow_json_get(root, "normalizer"), where, &t->normalizer));
    (void)snprintf(where, sizeof where, "%s: added_tokens", what);
    SOW_TRY(sow_text_added_read(sow_json_get(root, "added_tokens"), where, &t->vocab, &t->normalizer, &t->added));
    (void)snprintf(where, sizeof where, "%s: pre_tokenizer", what);
    SOW_TRY(sow_text_pretok_read(sow_json_get(root, "pre_tokenizer"), where, &t->pretok));
    (void)snprintf(where, sizeof where, "%s: post_processor", what);
    SOW_TRY(sow_text_post_read(sow_json_get(root, "post_processor"), &t->vocab, where, &t->post));
    (void)snprintf(where, sizeof where, "%s: decoder", what);
    return sow_text_decoder_read(sow_json_get(root, "decoder"), &t->vocab, &t->added, where, &t->decoder);
}

sow_code sow_tokenizer_parse(const char *json, size_t bytes, const char *what, sow_tokenizer **out)
{
    sow_tokenizer *t = NULL;
    sow_json *root = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_json_parse(json, bytes, what, &root));
    SOW_TRY_OR(rc, SOW_ALLOC(&t, 1));
    SOW_TRY_OR(rc, read_parts(t, root, what));
    SOW_TRY_OR(rc, sow_text_copy(json, bytes, &t->json));
    t->json_bytes = bytes;
    *out = t;
    t = NULL;
done:
    sow_tokenizer_destroy(&t);
    sow_json_destroy(&root);
    return rc;
}

void sow_tokenizer_destroy(sow_tokenizer **tokenizer)
{
    sow_tokenizer *t = *tokenizer;
    if (t == NULL)
        return;
    SOW_FREE(&t->cuts[1].cuts);
    SOW_FREE(&t->cuts[0].cuts);
    sow_text_decoding_fini(&t->decoding);
    sow_text_decoder_destroy(&t->decoder);
    sow_text_post_fini(&t->post);
    sow_text_pretok_fini(&t->pretok);
    sow_text_added_fini(&t->added);
    sow_text_bpe_destroy(&t->bpe);
    sow_text_vocab_fini(&t->vocab);
    sow_text_normalizer_fini(&t->normalizer);
    SOW_FREE(&t->json);
    SOW_FREE(tokenizer);
}

const char *sow_tokenizer_json(const sow_tokenizer *tokenizer, size_t *bytes)
{
    if (bytes != NULL)
        *bytes = tokenizer->json_bytes;
    return tokenizer->json;
}

int64_t sow_tokenizer_size(const sow_tokenizer *tokenizer)
{
    return tokenizer->vocab.n;
}

int32_t sow_tokenizer_find(const sow_tokenizer *tokenizer, const char *content)
{
    return sow_text_vocab_find(&tokenizer->vocab, content, strlen(content));
}

/* ---- encoding ---- */

/* Text without added tokens: cut into pieces, each encoded by itself. */
static sow_code encode_plain(sow_tokenizer *t, const char *text, size_t bytes, bool is_start, sow_ids *out)
{
    const text_pieces *pieces = NULL;
    SOW_TRY(sow_text_pretok_apply(&t->pretok, text, bytes, is_start, &pieces));
    for (int64_t i = 0; i < pieces->n; i++) {
        text_piece piece = pieces->pieces[i];
        SOW_TRY(sow_text_bpe_encode(t->bpe, pieces->text.text + piece.start, piece.bytes, out));
    }
    return SOW_OK;
}

/* Text without tokens of the first set: normalized, then cut at tokens of the second. */
static sow_code encode_raw(sow_tokenizer *t, const char *text, size_t bytes, bool is_start, sow_ids *out)
{
    const char *normal = NULL;
    size_t n = 0;
    SOW_TRY(sow_text_normalizer_apply(&t->normalizer, text, bytes, &normal, &n));
    SOW_TRY(sow_text_added_cut(&t->added, 1, normal, n, &t->cuts[1]));
    for (int64_t i = 0; i < t->cuts[1].n; i++) {
        text_cut cut = t->cuts[1].cuts[i];
        if (cut.id >= 0)
            SOW_TRY(sow_ids_add(out, cut.id));
        else
            SOW_TRY(encode_plain(t, normal + cut.start, cut.end - cut.start, is_start && cut.start == 0, out));
    }
    return SOW_OK;
}

static sow_code encode(sow_tokenizer *t, const char *text, size_t bytes, bool with_special, sow_ids *out)
{
    int64_t from = out->n;
    SOW_TRY(sow_text_added_cut(&t->added, 0, text, bytes, &t->cuts[0]));
    for (int64_t i = 0; i < t->cuts[0].n; i++) {
        text_cut cut = t->cuts[0].cuts[i];
        if (cut.id >= 0)
            SOW_TRY(sow_ids_add(out, cut.id));
        else
            SOW_TRY(encode_raw(t, text + cut.start, cut.end - cut.start, cut.start == 0, out));
    }
    return with_special ? sow_text_post_apply(&t->post, from, out) : SOW_OK;
}

sow_code sow_tokenizer_encode(sow_tokenizer *tokenizer, const char *text, size_t bytes, bool with_special, sow_ids *out)
{
    if (!sow_words_is_utf8(text, bytes))
        return SOW_FAIL(SOW_EFORMAT, "a text of %zu bytes to be tokenized is not UTF-8", bytes);
    int64_t before = out->n;
    sow_code rc = encode(tokenizer, text, bytes, with_special, out);
    if (rc != SOW_OK)
        out->n = before;
    return rc;
}

/* ---- decoding ---- */

static bool is_special(const sow_tokenizer *t, int64_t id)
{
    return id < t->vocab.n && t->vocab.tokens[id].is_special;
}

sow_code sow_tokenizer_decode(sow_tokenizer *tokenizer, const int32_t *ids, int64_t n, bool skip_special,
                              sow_words *out)
{
    text_decoding *decoding = &tokenizer->decoding;
    sow_text_decoding_begin(decoding, tokenizer->decoder);
    size_t before = out->bytes;
    sow_code rc = SOW_OK;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0) {
            rc = SOW_FAIL(SOW_EARG, "id %" PRId32 " at %" PRId64 " is negative", ids[i], i);
            goto done;
        }
        if (!skip_special || !is_special(tokenizer, ids[i]))
            SOW_TRY_OR(rc, sow_text_decoding_put(decoding, tokenizer->decoder, ids[i], true, out));
    }
    rc = sow_text_decoding_end(decoding, tokenizer->decoder, out);
done:
    if (rc != SOW_OK && out->text != NULL) {
        out->bytes = before;
        out->text[before] = '\0';
    }
    return rc;
}

const char *sow_tokenizer_bytes(const sow_tokenizer *tokenizer, int32_t id, size_t *bytes)
{
    if (id >= 0 && is_special(tokenizer, id))
        return sow_text_vocab_token(&tokenizer->vocab, id, bytes);
    return sow_text_decoder_bytes(tokenizer->decoder, id, bytes);
}

struct sow_stream_decoder {
    sow_tokenizer *tokenizer; /* borrowed, outlives this */
    text_decoding decoding;
};

sow_code sow_stream_decoder_create(sow_tokenizer *tokenizer, sow_stream_decoder **out)
{
    sow_stream_decoder *decoder = NULL;
    SOW_TRY(SOW_ALLOC(&decoder, 1));
    decoder->tokenizer = tokenizer;
    sow_text_decoding_begin(&decoder->decoding, tokenizer->decoder);
    *out = decoder;
    return SOW_OK;
}

void sow_stream_decoder_destroy(sow_stream_decoder **decoder)
{
    if (*decoder == NULL)
        return;
    sow_text_decoding_fini(&(*decoder)->decoding);
    SOW_FREE(decoder);
}

sow_code sow_stream_decoder_put(sow_stream_decoder *decoder, int32_t id, sow_words *out)
{
    if (id < 0)
        return SOW_FAIL(SOW_EARG, "id %" PRId32 " is negative", id);
    return sow_text_decoding_put(&decoder->decoding, decoder->tokenizer->decoder, id, false, out);
}

sow_code sow_stream_decoder_end(sow_stream_decoder *decoder, sow_words *out)
{
    return sow_text_decoding_end(&decoder->decoding, decoder->tokenizer->decoder, out);
}
