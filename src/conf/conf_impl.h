/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the rows of the table, where a value came from, and the messages.
 *
 *     options.def, task_options.def --> option_rows.c --> value.c (text <-> field) <-- yaml.c (file), options.c (set)
 *                                                      \--> write.c (YAML, settings), doc.c (CONFIG.md, sower config)
 *
 * Needs: options, words. */
#ifndef SOWER_CONF_IMPL_H
#define SOWER_CONF_IMPL_H

#include "sower/options.h"
#include "sower/words.h"

typedef enum option_kind { KIND_INT, KIND_REAL, KIND_BOOL, KIND_TEXT } option_kind;

typedef struct option_row {
    const char *path;    /* "es.sigma", "method", "probes[].rows" */
    const char *section; /* "es", "" */
    const char *name;    /* "sigma" */
    option_kind kind;
    bool is_free;  /* of the result */
    size_t offset; /* of the field in sow_options; of a probe's row in sow_probe_options */
    const char *default_text;
    double low, high;    /* KIND_INT, KIND_REAL */
    const char *choices; /* "a|b|c" or NULL */
    const char *unit, *doc;
} option_row;

/* clang-format off */
/* Every row but the probes', and a probe's; their numbers are constants so that arrays can run beside them. */
enum {
#define TOP_OPT(name, ...)           +1
#define OPT(section, name, ...)      +1
    N_RUN_ROWS = 0
#include "sower/options.def"
    ,
#define TASK_OPT(name, ...) +1
    N_TASK_ROWS = 0
#include "sower/task_options.def"
    ,
#define PROBE_OPT(name, ...) +1
    N_OWN_PROBE_ROWS = 0
#include "sower/task_options.def"
    ,
#define SECTION_BEGIN(section) +1
    N_SECTIONS = 1 /* the task's */
#include "sower/options.def"
    ,
    N_ROWS = N_RUN_ROWS + N_TASK_ROWS,
    N_PROBE_ROWS = N_TASK_ROWS + N_OWN_PROBE_ROWS
};
/* clang-format on */
extern const option_row sow_conf_rows[N_ROWS];
extern const option_row sow_conf_probe_rows[N_PROBE_ROWS];
/* In order; the task's is among them, the probes' is not. */
extern const char *const sow_conf_sections[N_SECTIONS];

/* The row of a name in a section (path: of "section.name"); NULL if there is none. */
const option_row *sow_conf_find(const char *section, const char *name);
const option_row *sow_conf_find_path(const char *path);
const option_row *sow_conf_find_probe(const char *name);
/* Its number in sow_conf_sections, -1 if it is none. */
int sow_conf_find_section(const char *name);
/* The key that was probably meant by "section.name": one of that name elsewhere, or the nearest; NULL if none is. */
const char *sow_conf_meant(const char *section, const char *name);

/* Where a value came from: nowhere (a default), a line of the file, or --set. */
typedef struct conf_mark {
    int line;
    bool is_set;
} conf_mark;

/* The probes with the marks of their keys. */
typedef struct probe_list {
    int64_t n;
    conf_mark mark;                                    /* of `probes` */
    conf_mark marks[SOW_MAX_PROBES][N_PROBE_ROWS + 1]; /* the last one: of the item */
    sow_probe_options items[SOW_MAX_PROBES];
} probe_list;

struct sow_conf {
    sow_options options;
    char *file;                    /* owned; its name in messages, NULL: none was read */
    conf_mark marks[N_ROWS];       /* beside sow_conf_rows */
    int section_lines[N_SECTIONS]; /* beside sow_conf_sections; 0: not in the file */
    probe_list *probes;            /* owned; options.probes is a copy of its items */
};

/* value.c */
enum { SHOW_BYTES = 80, PLACE_BYTES = 1024, KEY_BYTES = 200, EXPECTED_BYTES = 320 };

/* The bytes as they can stand in a message: on one line, not too long, control characters escaped. */
const char *sow_conf_show(const char *text, size_t bytes, char out[SHOW_BYTES]);

/* "FILE:LINE", "FILE", "--set". */
const char *sow_conf_place(const sow_conf *conf, conf_mark mark, char out[PLACE_BYTES]);

/* Fails with "PLACE: KEY: " and the words. */
#define CONF_FAIL(conf, mark, key, ...) sow_conf_fail((conf), (mark), (key), __FILE__, __LINE__, __VA_ARGS__)
sow_code sow_conf_fail(const sow_conf *conf, conf_mark mark, const char *key, const char *file, int line,
                       const char *fmt, ...) SOW_PRINTF(6, 7);

/* "a whole number from 2 to 1048576", "one of f32, fp16", ... */
const char *sow_conf_expected(const option_row *row, char out[EXPECTED_BYTES]);

/* Reads `text` as the row's kind into base + row->offset; base NULL: checks only. */
SOW_NODISCARD sow_code sow_conf_read(const sow_conf *conf, conf_mark mark, const char *key, const option_row *row,
                                     const char *text, size_t bytes, void *base);
/* The default into base + row->offset (of a text: the rest is zero). */
void sow_conf_read_default(const option_row *row, const char *default_text, void *base);

/* The field as text that reads back to the same bits. */
const char *sow_conf_format(const option_row *row, const void *base, char out[SOW_TEXT]);
/* The shortest decimal that reads back to x. */
const char *sow_conf_format_real(double x, char out[SOW_TEXT]);
/* The default of a probe's row. */
const char *sow_conf_probe_default(const option_row *row);
void sow_conf_init_probe(sow_probe_options *probe);

/* yaml.c, options.c, check.c */
/* Reads a document (is_set: the value of --set probes=...) into conf. */
SOW_NODISCARD sow_code sow_conf_read_yaml(sow_conf *conf, const char *yaml, size_t bytes, bool is_set);

/* Where a key is or would be: its line, else that of its section or item, else the file's first. */
conf_mark sow_conf_mark_near(const sow_conf *conf, const char *key);

/* Checks what no single row can: that keys fit together. */
SOW_NODISCARD sow_code sow_conf_check(const sow_conf *conf);

#endif
