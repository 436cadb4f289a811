/* SPDX-License-Identifier: Apache-2.0 */
/* Options: one table (options.def) becomes the struct, the defaults, the YAML reader, the checks, `sower config` and
 * docs/CONFIG.md.
 *
 * Needs: libyaml, error, alloc, words.  Threads: one conf, one thread.  Ranks: knows none; sow_options is plain data, so that
 * root can read the file and send the bytes.
 *
 * Every error is one line: "FILE:LINE: KEY: VALUE is ..., expected ...; did you mean ...?" with SOW_ECONF. */
#ifndef SOWER_OPTIONS_H
#define SOWER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "sower/error.h"

enum { SOW_TEXT = 512, SOW_MAX_PROBES = 16 };
typedef char sow_text[SOW_TEXT];

/* One task to answer: the target (`task:`), or a probe (`probes:`, with `every`). */
typedef struct sow_task_options {
#define TASK_OPT(name, KIND, default_text, low, high, choices, unit, doc) SOW_FIELD_##KIND(name)
#define SOW_FIELD_INT(name)  int64_t name;
#define SOW_FIELD_REAL(name) double name;
#define SOW_FIELD_BOOL(name) bool name;
#define SOW_FIELD_TEXT(name) sow_text name;
#include "sower/task_options.def"
#undef TASK_OPT
} sow_task_options;

/* Everything a run can be told.  `options.<section>.<name>`; probes are a list. */
typedef struct sow_options {
#define SECTION_BEGIN(section) struct {
#define SECTION_END(section)                                                                                           \
    }                                                                                                                  \
    section;
#define OPT(section, name, KIND, default_text, low, high, choices, unit, doc) SOW_FIELD_##KIND(name)
#include "sower/options.def"
#undef OPT
#undef SECTION_BEGIN
#undef SECTION_END
    sow_text method;
    sow_task_options task;
    int64_t n_probes;
    struct {
        sow_task_options task;
        int64_t every; /* steps */
    } probes[SOW_MAX_PROBES];
} sow_options;

/* Options together with where each came from, so that a later check can name file and line. */
typedef struct sow_conf sow_conf;

SOW_NODISCARD sow_code sow_conf_create(sow_conf **out);
void sow_conf_destroy(sow_conf **conf);

/* Reads a YAML file.  At most one file per conf; a key may stand once. */
SOW_NODISCARD sow_code sow_conf_load(sow_conf *conf, const char *path);
/* The same from memory; `what` names it in messages. */
SOW_NODISCARD sow_code sow_conf_parse(sow_conf *conf, const char *yaml, size_t bytes, const char *what);

/* "key=value", as --set takes it; it wins over the file, the last one wins.  probes are set whole, as YAML flow text:
 * "probes=[{task: calc, rows: 100, every: 5}]". */
SOW_NODISCARD sow_code sow_conf_set(sow_conf *conf, const char *assignment);

/* Fills defaults, checks that nothing is missing and that keys fit together.  Call once, after load and set.
 * required: keys that must have been given although the table has a default, NULL-terminated; may be NULL. */
SOW_NODISCARD sow_code sow_conf_finish(sow_conf *conf, const char *const *required);

const sow_options *sow_conf_options(const sow_conf *conf);
/* For commands that set a field from their own arguments after finish. */
sow_options *sow_conf_edit(sow_conf *conf);

/* Whether the key was given in the file or by --set ("task.form"). */
bool sow_conf_is_given(const sow_conf *conf, const char *key);

/* Refuses a key's value from above (a name that is in no table, a file that is not there): the message is
 * "FILE:LINE: KEY: VALUE is not EXPECTED; did you mean ...?".  names may be NULL.  Always returns SOW_ECONF. */
sow_code sow_conf_reject(const sow_conf *conf, const char *key, const char *expected, const char *const *names, int64_t n_names);

/* The resolved configuration as YAML that sow_conf_load reads back to the same options.  Into a FILE or a growing string. */
SOW_NODISCARD sow_code sow_conf_write(const sow_options *options, char **out_text);

/* docs/CONFIG.md, and one key as text for `sower config KEY` (false: no such key; then *nearest is the nearest or NULL). */
void sow_conf_write_doc(FILE *to);
bool sow_conf_describe(FILE *to, const char *key, const char **nearest);
/* Every key, one line each: key, default, unit, doc. */
void sow_conf_write_keys(FILE *to);

#endif
