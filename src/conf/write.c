/* SPDX-License-Identifier: Apache-2.0 */
/* Options written: the resolved configuration as YAML, and the settings that determine the result. */
#include "conf_impl.h"

#include "sower/alloc.h"

#include <stdio.h>
#include <string.h>

/* Whether a text can stand in YAML as it is, for our reader and for those that guess types. */
static bool is_plain(const char *text)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz", rest[] = "abcdefghijklmnopqrstuvwxyz0123456789_-./";
    if (text[0] == '\0' || strchr(letters, text[0]) == NULL || text[strspn(text, rest)] != '\0')
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0)
            return false;
    return true;
}

/* The code point at p and its length; a byte that is no UTF-8 counts as itself. */
static uint32_t decode(const unsigned char *p, size_t *bytes)
{
    size_t n = p[0] < 0xc0 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    *bytes = 1;
    if (n == 1 || strnlen((const char *)p, n) < n || !sow_words_is_utf8(p, n))
        return p[0];
    uint32_t c = p[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3f);
    *bytes = n;
    return c;
}

/* Characters that YAML does not take as they are, or takes for a line's end. */
static bool needs_escape(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe ||
           c == 0xffff;
}

static sow_code add_quoted(sow_words *out, const char *text)
{
    SOW_TRY(sow_words_add(out, "\"", 1));
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0';) {
        size_t bytes = 1;
        uint32_t c = decode(p, &bytes);
        if (c == '"' || c == '\\')
            SOW_TRY(sow_words_print(out, "\\%c", (char)c));
        else if (c == '\n')
            SOW_TRY(sow_words_add(out, "\\n", 2));
        else if (needs_escape(c))
            SOW_TRY(sow_words_print(out, "\\u%04x", (unsigned)c));
        else
            SOW_TRY(sow_words_add(out, p, bytes));
        p += bytes;
    }
    return sow_words_add(out, "\"", 1);
}

/* "name: value\n" */
static sow_code add_row(sow_words *out, const option_row *row, const void *base)
{
    char value[SOW_TEXT];
    (void)sow_conf_format(row, base, value);
    SOW_TRY(sow_words_print(out, "%s: ", row->name));
    if (row->kind != KIND_TEXT || is_plain(value))
        SOW_TRY(sow_words_print(out, "%s", value));
    else
        SOW_TRY(add_quoted(out, value));
    return sow_words_add(out, "\n", 1);
}

static sow_code add_probes(sow_words *out, const sow_options *options)
{
    if (options->n_probes == 0)
        return SOW_OK;
    SOW_TRY(sow_words_print(out, "probes:\n"));
    for (int64_t i = 0; i < options->n_probes; i++) {
        for (int j = 0; j < N_PROBE_ROWS; j++) {
            SOW_TRY(sow_words_print(out, j == 0 ? "  - " : "    "));
            SOW_TRY(add_row(out, &sow_conf_probe_rows[j], &options->probes[i]));
        }
    }
    return SOW_OK;
}

static sow_code write_all(sow_words *out, const sow_options *options)
{
    const char *section = "";
    for (int i = 0; i < N_ROWS; i++) {
        const option_row *row = &sow_conf_rows[i];
        if (strcmp(row->section, section) != 0) {
            section = row->section;
            SOW_TRY(sow_words_print(out, "%s:\n", section));
        }
        if (section[0] != '\0')
            SOW_TRY(sow_words_add(out, "  ", 2));
        SOW_TRY(add_row(out, row, options));
    }
    return add_probes(out, options);
}

sow_code sow_conf_write(const sow_options *options, char **out_text)
{
    sow_words out = {0};
    sow_code rc = write_all(&out, options);
    if (rc == SOW_OK)
        rc = sow_alloc_string(out_text, out.text);
    sow_words_fini(&out);
    return rc;
}

/* Whether a section says something under a method: each method has its own, and the optimizer belongs to those with
 * gradients. */
static bool is_of_method(const char *section, const char *method)
{
    static const char *const methods[] = {"es", "grpo", "sft"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(section, methods[i]) == 0)
            return strcmp(method, section) == 0;
    return strcmp(section, "adamw") != 0 || strcmp(method, "es") != 0;
}

const char *sow_conf_stray(const sow_conf *conf, int64_t *n)
{
    const char *first = NULL;
    char value[SOW_TEXT], default_value[SOW_TEXT];
    sow_options defaults = {0};
    *n = 0;
    for (int i = 0; i < N_ROWS; i++) {
        const option_row *row = &sow_conf_rows[i];
        if (row->is_free || is_of_method(row->section, conf->options.method) || !sow_conf_is_given(conf, row->path))
            continue;
        /* config.yaml of a run gives every key. */
        sow_conf_read_default(row, row->default_text, &defaults);
        if (strcmp(sow_conf_format(row, &conf->options, value), sow_conf_format(row, &defaults, default_value)) == 0)
            continue;
        first = first == NULL ? row->path : first;
        ++*n;
    }
    return first;
}

/* A probe's rows as "probes[2].rows". */
static sow_code each_probe(const sow_options *options, sow_conf_each_setting each, void *context)
{
    char key[KEY_BYTES], value[SOW_TEXT];
    for (int64_t i = 0; i < options->n_probes; i++)
        for (int j = 0; j < N_PROBE_ROWS; j++) {
            const option_row *row = &sow_conf_probe_rows[j];
            (void)snprintf(key, sizeof key, "probes[%lld].%s", (long long)i, row->name);
            SOW_TRY(each(context, &(sow_setting){.key = key,
                                                 .value = sow_conf_format(row, &options->probes[i], value),
                                                 .default_value = sow_conf_probe_default(row),
                                                 .is_free = row->is_free}));
        }
    return SOW_OK;
}

static sow_code each_row(const sow_options *options, const sow_options *defaults, sow_conf_each_setting each,
                         void *context)
{
    char value[SOW_TEXT], default_value[SOW_TEXT];
    for (int i = 0; i < N_ROWS; i++) {
        const option_row *row = &sow_conf_rows[i];
        if (!is_of_method(row->section, options->method))
            continue;
        SOW_TRY(each(context, &(sow_setting){.key = row->path,
                                             .value = sow_conf_format(row, options, value),
                                             .default_value = sow_conf_format(row, defaults, default_value),
                                             .is_free = row->is_free}));
    }
    return SOW_OK;
}

sow_code sow_conf_settings(const sow_options *options, sow_conf_each_setting each, void *context)
{
    sow_conf *defaults = NULL;
    SOW_TRY(sow_conf_create(&defaults));
    sow_code rc = each_row(options, sow_conf_options(defaults), each, context);
    if (rc == SOW_OK)
        rc = each_probe(options, each, context);
    sow_conf_destroy(&defaults);
    return rc;
}

sow_code sow_conf_result_settings(const sow_options *options, sow_conf_each each, void *context)
{
    char value[SOW_TEXT];
    for (int i = 0; i < N_ROWS; i++)
        if (!sow_conf_rows[i].is_free && is_of_method(sow_conf_rows[i].section, options->method))
            SOW_TRY(each(context, sow_conf_rows[i].path, sow_conf_format(&sow_conf_rows[i], options, value)));
    return SOW_OK;
}
