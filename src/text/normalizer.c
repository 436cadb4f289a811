/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: what changes the text before tokens are looked for. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <string.h>

typedef struct kind {
    const char *type, *keys;
    sow_code (*read)(const sow_json *node, const char *where, text_normalizer_step *step);
    sow_code (*apply)(const text_normalizer_step *step, text_spans *spans, const char *text, size_t bytes,
                      sow_words *out);
    text_form form;
} kind;

struct text_normalizer_step {
    const kind *kind;
    char *content; /* owned: the replacement, or what is prepended */
    size_t bytes;
    text_matcher matcher;
};

static sow_code keep(const sow_json *node, const char *where, const char *key, text_normalizer_step *step)
{
    const char *text = NULL;
    SOW_TRY(sow_text_get_string(node, where, key, &text, &step->bytes));
    return sow_text_copy(text, step->bytes, &step->content);
}

static sow_code read_nothing(const sow_json *node, const char *where, text_normalizer_step *step)
{
    (void)node, (void)where, (void)step;
    return SOW_OK;
}

static sow_code read_prepend(const sow_json *node, const char *where, text_normalizer_step *step)
{
    return keep(node, where, "prepend", step);
}

static sow_code read_replace(const sow_json *node, const char *where, text_normalizer_step *step)
{
    SOW_TRY(keep(node, where, "content", step));
    return sow_text_matcher_read(node, where, &step->matcher);
}

static sow_code apply_form(const text_normalizer_step *step, text_spans *spans, const char *text, size_t bytes,
                           sow_words *out)
{
    (void)spans;
    return sow_text_normalize(step->kind->form, text, bytes, out);
}

static sow_code apply_prepend(const text_normalizer_step *step, text_spans *spans, const char *text, size_t bytes,
                              sow_words *out)
{
    (void)spans;
    if (bytes > 0)
        SOW_TRY(sow_words_add(out, step->content, step->bytes));
    return sow_words_add(out, text, bytes);
}

static sow_code apply_replace(const text_normalizer_step *step, text_spans *spans, const char *text, size_t bytes,
                              sow_words *out)
{
    return sow_text_matcher_replace(&step->matcher, step->content, step->bytes, spans, text, bytes, out);
}

static const kind kinds[] = {
    {"NFC", "type", read_nothing, apply_form, TEXT_NFC},
    {"NFD", "type", read_nothing, apply_form, TEXT_NFD},
    {"NFKC", "type", read_nothing, apply_form, TEXT_NFKC},
    {"NFKD", "type", read_nothing, apply_form, TEXT_NFKD},
    {"Prepend", "type prepend", read_prepend, apply_prepend, 0},
    {"Replace", "type pattern content", read_replace, apply_replace, 0},
};

static sow_code visit(const sow_json *component, const char *type, const char *where, void *context)
{
    text_normalizer *out = context;
    const char *names[sizeof kinds / sizeof *kinds];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        names[i] = kinds[i].type;
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        SOW_TRY(sow_text_check_keys(component, where, kinds[i].keys));
        SOW_TRY(SOW_GROW(&out->steps, &out->capacity, out->n));
        text_normalizer_step *step = &out->steps[out->n++];
        step->kind = &kinds[i];
        return kinds[i].read(component, where, step);
    }
    return sow_text_fail_type(where, type, names, sizeof kinds / sizeof *kinds);
}

sow_code sow_text_normalizer_read(const sow_json *node, const char *where, text_normalizer *out)
{
    return sow_text_walk(node, "normalizers", where, visit, out);
}

void sow_text_normalizer_fini(text_normalizer *normalizer)
{
    for (int64_t i = 0; i < normalizer->n; i++) {
        SOW_FREE(&normalizer->steps[i].content);
        sow_text_matcher_fini(&normalizer->steps[i].matcher);
    }
    SOW_FREE(&normalizer->steps);
    sow_words_fini(&normalizer->result[0]);
    sow_words_fini(&normalizer->result[1]);
    sow_text_spans_fini(&normalizer->spans);
    *normalizer = (text_normalizer){0};
}

sow_code sow_text_normalizer_apply(text_normalizer *normalizer, const char *text, size_t bytes, const char **out,
                                   size_t *out_bytes)
{
    for (int64_t i = 0; i < normalizer->n; i++) {
        const text_normalizer_step *step = &normalizer->steps[i];
        sow_words *result = &normalizer->result[i % 2];
        sow_words_clear(result);
        SOW_TRY(step->kind->apply(step, &normalizer->spans, text, bytes, result));
        text = result->bytes > 0 ? result->text : "";
        bytes = result->bytes;
    }
    *out = text;
    *out_bytes = bytes;
    return SOW_OK;
}
