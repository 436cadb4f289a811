/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a run, gathered from a file and --set, with where each came from. */
#include "conf_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

sow_code sow_conf_create(sow_conf **out)
{
    sow_conf *conf = NULL;
    SOW_TRY(SOW_ALLOC(&conf, 1));
    for (int i = 0; i < N_ROWS; i++)
        sow_conf_read_default(&sow_conf_rows[i], sow_conf_rows[i].default_text, &conf->options);
    *out = conf;
    return SOW_OK;
}

void sow_conf_destroy(sow_conf **conf)
{
    if (*conf == NULL)
        return;
    SOW_FREE(&(*conf)->probes);
    SOW_FREE(&(*conf)->file);
    SOW_FREE(conf);
}

sow_code sow_conf_parse(sow_conf *conf, const char *yaml, size_t bytes, const char *what)
{
    SOW_ASSERT(conf->file == NULL);
    SOW_TRY(sow_alloc_string(&conf->file, what));
    return sow_conf_read_yaml(conf, yaml, bytes, false);
}

sow_code sow_conf_load(sow_conf *conf, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    sow_code rc = sow_file_read(path, MAX_FILE_BYTES, &text, &bytes);
    if (rc == SOW_EIO)
        return SOW_FAIL(SOW_ECONF, "%s", sow_error_text());
    if (rc == SOW_OK)
        rc = sow_conf_parse(conf, text, bytes, path);
    SOW_FREE(&text);
    return rc;
}

/* Says what is wrong with "key=value" whose key has no row. */
static sow_code fail_set(const sow_conf *conf, const char *key)
{
    const conf_mark mark = {.is_set = true};
    char shown[SHOW_BYTES], section[KEY_BYTES] = "";
    (void)sow_conf_show(key, strlen(key), shown);
    if (sow_conf_find_section(key) >= 0)
        return CONF_FAIL(conf, mark, shown, "the key is a section, expected one of its keys: %s.KEY=VALUE", shown);
    if (strncmp(key, "probes", 6) == 0)
        return CONF_FAIL(conf, mark, shown,
                         "the key is part of a list, expected the whole list: probes=[{task: calc, rows: 200}]");
    const char *name = strchr(key, '.');
    if (name != NULL)
        (void)snprintf(section, sizeof section, "%.*s", (int)(name - key), key);
    const char *near = sow_conf_meant(section, name == NULL ? key : name + 1);
    return CONF_FAIL(conf, mark, shown, "the key is unknown, expected one that sower config lists%s%s%s",
                     near == NULL ? "" : "; did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?");
}

sow_code sow_conf_set(sow_conf *conf, const char *assignment)
{
    const conf_mark mark = {.is_set = true};
    char key[KEY_BYTES], shown[SHOW_BYTES];
    const char *equals = strchr(assignment, '=');
    size_t key_bytes = equals == NULL ? strlen(assignment) : (size_t)(equals - assignment);
    (void)sow_conf_show(assignment, key_bytes, shown);
    if (equals == NULL)
        return CONF_FAIL(conf, mark, shown, "no value is given, expected KEY=VALUE");
    if (key_bytes >= sizeof key)
        return CONF_FAIL(conf, mark, shown, "the key is too long, expected one that sower config lists");
    memcpy(key, assignment, key_bytes);
    key[key_bytes] = '\0';
    const char *value = equals + 1;
    if (strcmp(key, "probes") == 0)
        return sow_conf_read_yaml(conf, value, strlen(value), true);
    const option_row *row = sow_conf_find_path(key);
    if (row == NULL)
        return fail_set(conf, key);
    SOW_TRY(sow_conf_read(conf, mark, key, row, value, strlen(value), &conf->options));
    conf->marks[row - sow_conf_rows].is_set = true;
    return SOW_OK;
}

/* A key's row, mark and what its offset is from.  Keys: "es.sigma", "probes", "probes[2]", "probes[2].rows". */
typedef struct found_key {
    const option_row *row; /* NULL: a list or an item */
    conf_mark mark;
    const void *base;
} found_key;

static bool find_probe_key(const sow_conf *conf, const char *key, found_key *out)
{
    const char *after = key + strlen("probes");
    if (*after == '\0') {
        *out = (found_key){.mark = conf->probes == NULL ? (conf_mark){0} : conf->probes->mark};
        return true;
    }
    char number[8] = "";
    size_t digits = strspn(after + (*after == '['), "0123456789");
    int64_t index = 0;
    if (*after != '[' || digits == 0 || digits >= sizeof number || after[1 + digits] != ']')
        return false;
    memcpy(number, after + 1, digits);
    if (!sow_words_to_int(number, &index) || index >= conf->options.n_probes)
        return false;
    const char *name = after + 2 + digits;
    const option_row *row = name[0] == '.' ? sow_conf_find_probe(name + 1) : NULL;
    if (row == NULL && name[0] != '\0')
        return false;
    *out = (found_key){.row = row, .base = &conf->options.probes[index]};
    if (conf->probes != NULL && index < conf->probes->n)
        out->mark = conf->probes->marks[index][row == NULL ? N_PROBE_ROWS : row - sow_conf_probe_rows];
    return true;
}

static bool find_key(const sow_conf *conf, const char *key, found_key *out)
{
    if (strncmp(key, "probes", strlen("probes")) == 0)
        return find_probe_key(conf, key, out);
    const option_row *row = sow_conf_find_path(key);
    if (row == NULL)
        return false;
    *out = (found_key){.row = row, .mark = conf->marks[row - sow_conf_rows], .base = &conf->options};
    return true;
}

static bool is_marked(conf_mark mark)
{
    return mark.line > 0 || mark.is_set;
}

bool sow_conf_is_given(const sow_conf *conf, const char *key)
{
    found_key found;
    return find_key(conf, key, &found) && is_marked(found.mark);
}

/* Where a key is or would be: its line, else that of its section or item, else the file's first. */
static conf_mark mark_near(const sow_conf *conf, const char *key, const found_key *found)
{
    char item[KEY_BYTES];
    found_key parent;
    if (is_marked(found->mark) || found->row == NULL)
        return found->mark;
    int section = sow_conf_find_section(found->row->section);
    if (section >= 0)
        return (conf_mark){.line = conf->section_lines[section]};
    (void)snprintf(item, sizeof item, "%.*s", (int)strcspn(key, "."), key);
    return find_key(conf, item, &parent) ? parent.mark : found->mark;
}

sow_code sow_conf_reject(const sow_conf *conf, const char *key, const char *expected, const char *const *names,
                         int64_t n_names)
{
    found_key found = {0};
    char value[SOW_TEXT] = "", shown[SHOW_BYTES];
    bool is_known = find_key(conf, key, &found);
    if (is_known && found.row != NULL)
        (void)sow_conf_format(found.row, found.base, value);
    const char *near = sow_words_nearest(value, names, names == NULL ? 0 : n_names);
    return CONF_FAIL(conf, mark_near(conf, key, &found), key, "%s is not what is expected here, expected %s%s%s%s",
                     sow_conf_show(value, strlen(value), shown), expected, near == NULL ? "" : "; did you mean ",
                     near == NULL ? "" : near, near == NULL ? "" : "?");
}

/* Refuses a key that was not given, or given as an empty text. */
static sow_code check_given(const sow_conf *conf, const char *key)
{
    found_key found;
    SOW_ASSERT(find_key(conf, key, &found));
    char value[SOW_TEXT];
    if (is_marked(found.mark) && (found.row == NULL || sow_conf_format(found.row, found.base, value)[0] != '\0'))
        return SOW_OK;
    const char *doc = found.row == NULL ? "a list" : found.row->doc;
    return CONF_FAIL(conf, mark_near(conf, key, &found), key, "nothing is given, expected a value (%.*s)",
                     (int)strcspn(doc, "."), doc);
}

sow_code sow_conf_finish(sow_conf *conf, const char *const *required)
{
    char key[KEY_BYTES];
    for (int64_t i = 0; required != NULL && required[i] != NULL; i++)
        SOW_TRY(check_given(conf, required[i]));
    for (int64_t i = 0; i < conf->options.n_probes; i++) {
        (void)snprintf(key, sizeof key, "probes[%lld].task", (long long)i);
        SOW_TRY(check_given(conf, key));
    }
    return sow_conf_check(conf);
}

conf_mark sow_conf_mark_near(const sow_conf *conf, const char *key)
{
    found_key found = {0};
    return find_key(conf, key, &found) ? mark_near(conf, key, &found) : found.mark;
}

const sow_options *sow_conf_options(const sow_conf *conf)
{
    return &conf->options;
}

sow_options *sow_conf_edit(sow_conf *conf)
{
    return &conf->options;
}
