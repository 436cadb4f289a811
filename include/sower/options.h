/* SPDX-License-Identifier: Apache-2.0 */
/* Options: one table (options.def) becomes the struct, the defaults, the YAML reader, the checks, `sower config` and
 * docs/CONFIG.md.
 *
 * Needs: libyaml, error, alloc, words.  Threads: one conf, one thread.  Ranks: knows none; sow_options is plain data,
 * so that root can read the file and send the bytes.
 *
 * Every error is one line: "FILE:LINE: KEY: VALUE is ..., expected ...; did you mean ...?" with SOW_ECONF. */
#ifndef SOWER_OPTIONS_H
#define SOWER_OPTIONS_H

#include "sower/error.h"

#include <stdbool.h>
#include <stdio.h>

enum { SOW_TEXT = 512, SOW_MAX_PROBES = 16 };
typedef char sow_text[SOW_TEXT];

/* clang-format off */
#define SOW_FIELD_INT(name)  int64_t name;
#define SOW_FIELD_REAL(name) double name;
#define SOW_FIELD_BOOL(name) bool name;
#define SOW_FIELD_TEXT(name) sow_text name;

/* One task to answer: the target (`task:`), or part of a probe. */
typedef struct sow_task_options {
#define TASK_OPT(name, KIND, ...) SOW_FIELD_##KIND(name)
#include "sower/task_options.def"
} sow_task_options;

/* A task of which accuracy is followed during the run: an item of `probes:`. */
typedef struct sow_probe_options {
    sow_task_options task;
#define PROBE_OPT(name, KIND, ...) SOW_FIELD_##KIND(name)
#include "sower/task_options.def"
} sow_probe_options;

/* Everything a run can be told: `options.<section>.<name>`; probes are a list.  Unused bytes are zero, so that two of
 * them can be compared and sent as bytes. */
typedef struct sow_options {
#define TOP_OPT(name, KIND, ...)     SOW_FIELD_##KIND(name)
#define SECTION_BEGIN(section)       struct {
#define SECTION_END(section)         } section;
#define OPT(section, name, KIND, ...) SOW_FIELD_##KIND(name)
#include "sower/options.def"
    sow_task_options task;
    int64_t n_probes;
    sow_probe_options probes[SOW_MAX_PROBES];
} sow_options;
/* clang-format on */

/* Options together with where each came from, so that a later check can name file and line. */
typedef struct sow_conf sow_conf;

/* With the table's defaults.  *conf may be NULL. */
SOW_NODISCARD sow_code sow_conf_create(sow_conf **out);
void sow_conf_destroy(sow_conf **conf);

/* Reads a YAML file of at most 1 MiB.  At most one file per conf, before or after sow_conf_set; a key may stand once.
 * A file that cannot be read is SOW_ECONF too: it is a wrong argument. */
SOW_NODISCARD sow_code sow_conf_load(sow_conf *conf, const char *path);
/* The same from memory; `what` names it in messages. */
SOW_NODISCARD sow_code sow_conf_parse(sow_conf *conf, const char *yaml, size_t bytes, const char *what);

/* "key=value", as --set takes it; it wins over the file, the last one wins.  The value is taken as it stands, without
 * YAML's quotes and escapes; only probes are set whole, as YAML flow text: "probes=[{task: calc, rows: 100, every:
 * 5}]". */
SOW_NODISCARD sow_code sow_conf_set(sow_conf *conf, const char *assignment);

/* Checks that nothing is missing and that keys fit together.  Call after load and set.
 * required: keys that must have been given although the table has a default, NULL-terminated; may be NULL. */
SOW_NODISCARD sow_code sow_conf_finish(sow_conf *conf, const char *const *required);

const sow_options *sow_conf_options(const sow_conf *conf);
/* For commands that set a field from their own arguments after finish. */
sow_options *sow_conf_edit(sow_conf *conf);

/* Whether the key was given in the file or by --set: "task.form", "probes", "probes[0].rows". */
bool sow_conf_is_given(const sow_conf *conf, const char *key);

/* The first key given for another method than the one that runs, of those that would determine its result, with another
 * value than the default; *n: how many there are.  NULL: there is none. */
const char *sow_conf_stray(const sow_conf *conf, int64_t *n);

/* Refuses a key's value from above (a name that is in no table, a file that is not there): the message is
 * "FILE:LINE: KEY: VALUE is not what is expected here, expected EXPECTED; did you mean ...?".  names may be NULL.
 * Always returns SOW_ECONF. */
sow_code sow_conf_reject(const sow_conf *conf, const char *key, const char *expected, const char *const *names,
                         int64_t n_names);

/* The resolved configuration as YAML that sow_conf_load reads back to the same options, byte for byte.  Free with
 * SOW_FREE. */
SOW_NODISCARD sow_code sow_conf_write(const sow_options *options, char **out_text);

/* Calls `each` with every setting that determines the result under the options' method, in the order of the table, and
 * with no other: what a ledger's header holds besides digests of model and data.  Paths, probes, evaluation and the
 * sections of other methods are not among them.  The
 * values are those of `options`: what `auto` or 0 stands for is to be filled in before, if it matters.  A code of
 * `each` other than SOW_OK ends the loop and is returned. */
typedef sow_code (*sow_conf_each)(void *context, const char *key, const char *value);
SOW_NODISCARD sow_code sow_conf_result_settings(const sow_options *options, sow_conf_each each, void *context);

/* Every setting that means something under the options' method, the probes' among them ("probes[0].rows"), in the order
 * of the tables.  The texts live until `each` returns. */
typedef struct sow_setting {
    const char *key, *value, *default_value;
    bool is_free; /* of the result */
} sow_setting;
typedef sow_code (*sow_conf_each_setting)(void *context, const sow_setting *setting);
SOW_NODISCARD sow_code sow_conf_settings(const sow_options *options, sow_conf_each_setting each, void *context);

/* docs/CONFIG.md, and one key or section as text for `sower config KEY` (false: no such key; then *nearest is the
 * nearest or NULL).  Static storage. */
void sow_conf_write_doc(FILE *to);
bool sow_conf_describe(FILE *to, const char *key, const char **nearest);
/* Every key, one line each: key, default, unit, doc. */
void sow_conf_write_keys(FILE *to);

#endif
