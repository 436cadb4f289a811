/* SPDX-License-Identifier: Apache-2.0 */
/* Post-processors: special tokens before and behind the ids.  ByteLevel is one too, but changes offsets only. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <string.h>

typedef struct reading {
    const text_vocab *vocab;
    text_post *out;
} reading;

/* The ids of special_tokens[name]. */
static sow_code add_special(const sow_json *component, const char *where, const char *name, const text_vocab *vocab,
                            sow_ids *out)
{
    const sow_json *list = sow_json_get(sow_json_get(sow_json_get(component, "special_tokens"), name), "ids");
    if (sow_json_kind_of(list) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s.special_tokens: has no ids for '%.100s'", where, name);
    for (int64_t i = 0; i < sow_json_size(list); i++) {
        int64_t id = -1;
        size_t bytes = 0;
        if (!sow_json_to_int(sow_json_at(list, i), &id) || sow_text_vocab_token(vocab, id, &bytes) == NULL)
            return SOW_FAIL(SOW_EFORMAT, "%s.special_tokens: id %" PRId64 " of '%.100s' is no token", where, id, name);
        SOW_TRY(sow_ids_add(out, (int32_t)id));
    }
    return SOW_OK;
}

/* One piece of "single": {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": name}}. */
static sow_code read_piece(const sow_json *component, const sow_json *piece, const char *where, reading *r,
                           bool *is_behind)
{
    const char *sequence = sow_json_to_string(sow_json_get(sow_json_get(piece, "Sequence"), "id"), NULL);
    const char *special = sow_json_to_string(sow_json_get(sow_json_get(piece, "SpecialToken"), "id"), NULL);
    if (sow_json_size(piece) != 1 || (sequence == NULL && special == NULL))
        return SOW_FAIL(SOW_EFORMAT, "%s.single: a piece is neither a Sequence nor a SpecialToken", where);
    if (special != NULL)
        return add_special(component, where, special, r->vocab, *is_behind ? &r->out->behind : &r->out->before);
    if (strcmp(sequence, "A") != 0 || *is_behind)
        return SOW_FAIL(SOW_EFORMAT, "%s.single: does not hold Sequence A exactly once", where);
    *is_behind = true;
    return SOW_OK;
}

static sow_code read_template(const sow_json *component, const char *where, reading *r)
{
    SOW_TRY(sow_text_check_keys(component, where, "type single pair special_tokens"));
    if (r->out->has_template)
        return SOW_FAIL(SOW_EFORMAT, "%s: a second TemplateProcessing is not supported", where);
    r->out->has_template = true;
    const sow_json *single = sow_json_get(component, "single");
    if (sow_json_kind_of(single) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s.single: is missing or no list", where);
    bool is_behind = false;
    for (int64_t i = 0; i < sow_json_size(single); i++)
        SOW_TRY(read_piece(component, sow_json_at(single, i), where, r, &is_behind));
    return is_behind ? SOW_OK : SOW_FAIL(SOW_EFORMAT, "%s.single: does not hold Sequence A exactly once", where);
}

static sow_code visit(const sow_json *component, const char *type, const char *where, void *context)
{
    static const char *const known[] = {"ByteLevel", "TemplateProcessing"};
    if (strcmp(type, "ByteLevel") == 0)
        return sow_text_check_keys(component, where, "type add_prefix_space trim_offsets use_regex");
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(component, where, context);
    return sow_text_fail_type(where, type, known, 2);
}

sow_code sow_text_post_read(const sow_json *node, const text_vocab *vocab, const char *where, text_post *out)
{
    reading r = {vocab, out};
    return sow_text_walk(node, "processors", where, visit, &r);
}

void sow_text_post_fini(text_post *post)
{
    sow_ids_fini(&post->before);
    sow_ids_fini(&post->behind);
}

sow_code sow_text_post_apply(const text_post *post, int64_t from, sow_ids *ids)
{
    int64_t n = post->before.n, n_old = ids->n - from;
    bool is_there =
        n_old >= n && (n == 0 || memcmp(ids->ids + from, post->before.ids, (size_t)n * sizeof *ids->ids) == 0);
    for (int64_t i = 0; i < n && !is_there; i++)
        SOW_TRY(sow_ids_add(ids, 0));
    if (!is_there) {
        memmove(ids->ids + from + n, ids->ids + from, (size_t)n_old * sizeof *ids->ids);
        memcpy(ids->ids + from, post->before.ids, (size_t)n * sizeof *ids->ids);
    }
    for (int64_t i = 0; i < post->behind.n; i++)
        SOW_TRY(sow_ids_add(ids, post->behind.ids[i]));
    return SOW_OK;
}
