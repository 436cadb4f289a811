/* SPDX-License-Identifier: Apache-2.0 */
/* YAML: a document of the one shape that options have is read event by event; all else is refused where it stands.
 *
 *     method: es                       a scalar
 *     es: {population: 30, ...}        sections, each a mapping of scalars
 *     probes: [{task: calc, ...}]      a list of mappings of scalars
 *
 * Nothing is ever deeper, so a file of a million brackets ends at the third.  Anchors, aliases, tags and a second
 * document are refused: a reader should see what a run uses without resolving anything.
 *
 * Needs: libyaml. */
#include "conf_impl.h"

#include "sower/alloc.h"

#include <string.h>

#include <yaml.h>

typedef struct reader {
    sow_conf *conf;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    const char *yaml;
    size_t bytes;
    bool is_set;        /* the value of --set probes=... */
    probe_list *probes; /* owned; kept if they count */
} reader;

/* A scalar of the document, copied: key of a mapping. */
typedef struct key_text {
    char text[KEY_BYTES], shown[SHOW_BYTES];
    conf_mark mark;
} key_text;

static conf_mark mark_of(const reader *r, size_t line)
{
    return (conf_mark){.line = (int)line + 1, .is_set = r->is_set};
}

static conf_mark mark_now(const reader *r)
{
    return mark_of(r, r->event.start_mark.line);
}

static int lines_before(const reader *r, size_t offset)
{
    int n = 0;
    for (size_t i = 0; i < offset && i < r->bytes; i++)
        n += r->yaml[i] == '\n';
    return n;
}

static sow_code fail_syntax(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return SOW_FAIL(SOW_ENOMEM, "out of memory while reading YAML");
    size_t line = p->error == YAML_READER_ERROR ? (size_t)lines_before(r, p->problem_offset) : p->problem_mark.line;
    return CONF_FAIL(r->conf, mark_of(r, line), "invalid YAML", "%s%s%s", p->problem != NULL ? p->problem : "unknown",
                     p->context != NULL ? " " : "", p->context != NULL ? p->context : "");
}

/* The next event; the one before is gone. */
static sow_code next(reader *r)
{
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event) == 0) {
        memset(&r->event, 0, sizeof r->event);
        return fail_syntax(r);
    }
    return SOW_OK;
}

/* What the current event is, for messages; NULL for a scalar that is neither anchored nor tagged. */
static const char *oddity(const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return "an alias (*name)";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    default:
        break;
    }
    return anchor != NULL ? "an anchor (&name)" : tag != NULL ? "a tag (!name)" : NULL;
}

/* What stands where something else was expected. */
static const char *shape_name(const yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT)
        return "a mapping";
    return event->type == YAML_SEQUENCE_START_EVENT ? "a list" : "a value";
}

static bool is_null(const yaml_event_t *event)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp((const char *)event->data.scalar.value, words[i]) == 0)
            return true;
    return false;
}

/* Goes on to the value of `key`, which must be of `type`; what is expected is said by its row, if it has one. */
static sow_code next_value(reader *r, const char *key, yaml_event_type_t type, const option_row *row,
                           const char *expected)
{
    char shown[SHOW_BYTES], by_row[EXPECTED_BYTES];
    SOW_TRY(next(r));
    if (r->event.type == type && oddity(&r->event) == NULL && !is_null(&r->event))
        return SOW_OK;
    if (row != NULL)
        expected = sow_conf_expected(row, by_row);
    const char *odd = oddity(&r->event);
    if (odd != NULL)
        return CONF_FAIL(r->conf, mark_now(r), key, "%s is not allowed here, expected %s", odd, expected);
    if (is_null(&r->event))
        return CONF_FAIL(r->conf, mark_now(r), key, "nothing is given, expected %s", expected);
    if (r->event.type == YAML_SCALAR_EVENT)
        return CONF_FAIL(r->conf, mark_now(r), key, "%s is a single value, expected %s",
                         sow_conf_show((const char *)r->event.data.scalar.value, r->event.data.scalar.length, shown),
                         expected);
    return CONF_FAIL(r->conf, mark_now(r), key, "%s is given, expected %s", shape_name(&r->event), expected);
}

/* Goes on to the next key of the current mapping; *is_end if there is none. */
static sow_code next_key(reader *r, const char *inside, key_text *out, bool *is_end)
{
    SOW_TRY(next(r));
    *is_end = r->event.type == YAML_MAPPING_END_EVENT;
    if (*is_end)
        return SOW_OK;
    out->mark = mark_now(r);
    const char *odd = oddity(&r->event);
    if (odd == NULL && r->event.type != YAML_SCALAR_EVENT)
        odd = shape_name(&r->event);
    if (odd != NULL)
        return CONF_FAIL(r->conf, out->mark, inside, "%s is not allowed as a key, expected 'key: value'", odd);
    const char *text = (const char *)r->event.data.scalar.value;
    size_t bytes = r->event.data.scalar.length;
    (void)snprintf(out->text, sizeof out->text, "%s", text);
    (void)sow_conf_show(text, bytes, out->shown);
    if (strlen(text) != bytes)
        out->text[0] = '\0'; /* a NUL inside: no key has one */
    return SOW_OK;
}

static sow_code fail_twice(const reader *r, const char *key, conf_mark mark, int first_line)
{
    return CONF_FAIL(r->conf, mark, key, "the key is given twice (first in line %d), expected once", first_line);
}

static sow_code fail_unknown(const reader *r, const char *section, const key_text *key)
{
    char path[KEY_BYTES];
    bool is_top = section[0] == '\0';
    (void)snprintf(path, sizeof path, "%.64s%s%s", section, is_top ? "" : ".", key->shown);
    if (is_top && sow_conf_find_path(key->text) != NULL) {
        int dot = (int)strcspn(key->text, ".");
        return CONF_FAIL(r->conf, key->mark, path, "the key is written with a dot, expected '%s: ...' under '%.*s:'",
                         key->text + dot + 1, dot, key->text);
    }
    const char *near = sow_conf_meant(strncmp(section, "probes", 6) == 0 ? "probes" : section, key->text);
    return CONF_FAIL(r->conf, key->mark, path, "the key is unknown, expected %s%s (see sower config)%s%s%s",
                     is_top ? "a section" : "a key of ", section, near == NULL ? "" : "; did you mean ",
                     near == NULL ? "" : near, near == NULL ? "" : "?");
}

/* The value of one row, into base (NULL: it is only checked). */
static sow_code read_value(reader *r, const char *path, const option_row *row, void *base)
{
    SOW_TRY(next_value(r, path, YAML_SCALAR_EVENT, row, NULL));
    return sow_conf_read(r->conf, mark_now(r), path, row, (const char *)r->event.data.scalar.value,
                         r->event.data.scalar.length, base);
}

/* A key that has a row: its value is stored unless --set has given it already. */
static sow_code read_row(reader *r, const option_row *row, conf_mark mark)
{
    conf_mark *first = &r->conf->marks[row - sow_conf_rows];
    if (first->line > 0)
        return fail_twice(r, row->path, mark, first->line);
    first->line = mark.line;
    return read_value(r, row->path, row, first->is_set ? NULL : &r->conf->options);
}

static sow_code read_section(reader *r, const char *section)
{
    key_text key;
    bool is_end = false;
    SOW_TRY(next_value(r, section, YAML_MAPPING_START_EVENT, NULL, "a mapping 'key: value'"));
    for (;;) {
        SOW_TRY(next_key(r, section, &key, &is_end));
        if (is_end)
            return SOW_OK;
        const option_row *row = sow_conf_find(section, key.text);
        if (row == NULL)
            return fail_unknown(r, section, &key);
        SOW_TRY(read_row(r, row, key.mark));
    }
}

/* One item of the list; the current event is its mapping's start. */
static sow_code read_probe(reader *r, int64_t index)
{
    char item[KEY_BYTES], path[KEY_BYTES];
    key_text key;
    bool is_end = false;
    sow_probe_options *probe = &r->probes->items[index];
    conf_mark *marks = r->probes->marks[index];
    (void)snprintf(item, sizeof item, "probes[%lld]", (long long)index);
    sow_conf_init_probe(probe);
    marks[N_PROBE_ROWS] = mark_now(r);
    for (;;) {
        SOW_TRY(next_key(r, item, &key, &is_end));
        if (is_end)
            return SOW_OK;
        const option_row *row = sow_conf_find_probe(key.text);
        if (row == NULL)
            return fail_unknown(r, item, &key);
        (void)snprintf(path, sizeof path, "%.32s.%s", item, row->name);
        conf_mark *mark = &marks[row - sow_conf_probe_rows];
        if (mark->line > 0)
            return fail_twice(r, path, key.mark, mark->line);
        *mark = key.mark;
        SOW_TRY(read_value(r, path, row, probe));
    }
}

/* The list of probes; the current event is its start. */
static sow_code read_probe_items(reader *r)
{
    char item[KEY_BYTES];
    SOW_TRY(SOW_ALLOC(&r->probes, 1));
    r->probes->mark = mark_now(r);
    for (;;) {
        (void)snprintf(item, sizeof item, "probes[%lld]", (long long)r->probes->n);
        SOW_TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return SOW_OK;
        const char *odd = oddity(&r->event);
        if (odd != NULL || r->event.type != YAML_MAPPING_START_EVENT)
            return CONF_FAIL(r->conf, mark_now(r), item, "%s is given, expected a mapping like {task: calc, rows: 200}",
                             odd != NULL ? odd : shape_name(&r->event));
        if (r->probes->n == SOW_MAX_PROBES)
            return CONF_FAIL(r->conf, mark_now(r), "probes", "%d items is too many, expected at most %d",
                             SOW_MAX_PROBES + 1, SOW_MAX_PROBES);
        SOW_TRY(read_probe(r, r->probes->n));
        r->probes->n++;
    }
}

/* Makes the list that was read the conf's, unless it is the file's and --set has given one already. */
static void keep_probes(reader *r)
{
    sow_conf *conf = r->conf;
    if (conf->probes != NULL && conf->probes->mark.is_set && !r->is_set)
        return;
    SOW_FREE(&conf->probes);
    conf->probes = r->probes;
    r->probes = NULL;
    memset(conf->options.probes, 0, sizeof conf->options.probes);
    memcpy(conf->options.probes, conf->probes->items, (size_t)conf->probes->n * sizeof conf->probes->items[0]);
    conf->options.n_probes = conf->probes->n;
}

static sow_code read_top_key(reader *r, const key_text *key)
{
    const option_row *row = sow_conf_find("", key->text);
    int section = sow_conf_find_section(key->text);
    if (row != NULL)
        return read_row(r, row, key->mark);
    if (strcmp(key->text, "probes") == 0) {
        if (r->probes != NULL)
            return fail_twice(r, "probes", key->mark, r->probes->mark.line);
        SOW_TRY(next_value(r, "probes", YAML_SEQUENCE_START_EVENT, NULL, "a list of mappings"));
        return read_probe_items(r);
    }
    if (section < 0)
        return fail_unknown(r, "", key);
    int *line = &r->conf->section_lines[section];
    if (*line > 0)
        return fail_twice(r, key->text, key->mark, *line);
    *line = key->mark.line;
    return read_section(r, key->text);
}

static sow_code read_root(reader *r)
{
    key_text key;
    bool is_end = false;
    if (r->is_set) {
        SOW_TRY(next_value(r, "probes", YAML_SEQUENCE_START_EVENT, NULL, "a list like [{task: calc, rows: 200}]"));
        return read_probe_items(r);
    }
    SOW_TRY(next(r));
    const char *odd = oddity(&r->event);
    if (odd == NULL && is_null(&r->event))
        return SOW_OK; /* a document without content */
    if (odd != NULL || r->event.type != YAML_MAPPING_START_EVENT)
        return CONF_FAIL(r->conf, mark_now(r), "document", "%s is given, expected a mapping of sections",
                         odd != NULL ? odd : shape_name(&r->event));
    for (;;) {
        SOW_TRY(next_key(r, "document", &key, &is_end));
        if (is_end)
            return SOW_OK;
        SOW_TRY(read_top_key(r, &key));
    }
}

static sow_code read_stream(reader *r)
{
    SOW_TRY(next(r)); /* the stream's start */
    SOW_TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT) {
        SOW_TRY(read_root(r));
        SOW_TRY(next(r)); /* the document's end */
        SOW_TRY(next(r));
        if (r->event.type != YAML_STREAM_END_EVENT)
            return CONF_FAIL(r->conf, mark_now(r), "document", "a second one is given, expected one");
    } else if (r->is_set) {
        return CONF_FAIL(r->conf, mark_now(r), "probes", "nothing is given, expected a list");
    }
    if (r->probes != NULL)
        keep_probes(r);
    return SOW_OK;
}

static sow_code check_utf8(const reader *r)
{
    for (size_t first = 0; first < r->bytes;) {
        const char *end = memchr(r->yaml + first, '\n', r->bytes - first);
        size_t n = end == NULL ? r->bytes - first : (size_t)(end - r->yaml) - first + 1;
        if (!sow_words_is_utf8(r->yaml + first, n))
            return CONF_FAIL(r->conf, mark_of(r, (size_t)lines_before(r, first)), "invalid YAML",
                             "the line is not UTF-8, expected UTF-8");
        first += n;
    }
    return SOW_OK;
}

sow_code sow_conf_read_yaml(sow_conf *conf, const char *yaml, size_t bytes, bool is_set)
{
    sow_code rc = SOW_OK;
    reader r = {.conf = conf, .yaml = yaml, .bytes = bytes, .is_set = is_set};
    SOW_TRY(check_utf8(&r));
    if (yaml_parser_initialize(&r.parser) == 0)
        return SOW_FAIL(SOW_ENOMEM, "out of memory while reading YAML");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)yaml, bytes);
    SOW_TRY_OR(rc, read_stream(&r));
done:
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    SOW_FREE(&r.probes);
    return rc;
}
