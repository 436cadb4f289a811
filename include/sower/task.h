/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks: prompts and graders.  A row is a pure function of the options and its number.
 *
 * Needs: options (sow_task_options), philox, json, words, pattern (regular expressions, layer text).  Threads: one
 * task, one thread.  Ranks: knows none; every rank opens the task itself (from the seed) or from a file's bytes that
 * root sent.
 *
 * A task is a row of tasks.def and a file src/task/NAME.c (docs/HOWTO-add-a-task.md).  Contract tests loop over the
 * table. */
#ifndef SOWER_TASK_H
#define SOWER_TASK_H

#include "sower/options.h"
#include "sower/words.h"

#include <stdbool.h>

struct sow_json; /* json.h */

/* An opened task's own state. */
typedef struct sow_task_state sow_task_state;

/* What a grader says.  `reward` is what ES sees; `is_correct` what accuracy counts; parts are named by the kind. */
enum { SOW_MAX_PARTS = 2 }; /* they travel with every result */
typedef struct sow_grade {
    double reward;
    bool is_correct;
    double parts[SOW_MAX_PARTS];
} sow_grade;

/* The choices of a row of multiple choice.  Choice i is texts.text[ends[i - 1]] .. [ends[i] - 1] (from 0 for i = 0). */
enum { SOW_MAX_CHOICES = 16 };
typedef struct sow_choices {
    sow_words texts; /* one behind the other */
    int64_t n;
    size_t ends[SOW_MAX_CHOICES];
    const char *tail; /* scored behind each choice, "" for nothing; static storage */
} sow_choices;
void sow_choices_fini(sow_choices *choices);
/* Choice i; borrowed from `choices`, not ended by NUL. */
const char *sow_choices_text(const sow_choices *choices, int64_t i, size_t *bytes);
/* Adds one; SOW_EARG beyond SOW_MAX_CHOICES. */
SOW_NODISCARD sow_code sow_choices_add(sow_choices *choices, const char *text, size_t bytes);

/* ask, solve and key ADD to *out.  Generated rows are held out if crc32 of their key is 0 mod 10; a file's rows if
 * they have "split": "test". */
typedef struct sow_task_kind {
    const char *name, *doc;
    const char *parts[SOW_MAX_PARTS + 1]; /* names, NULL-terminated: {"format", "answer"} */
    bool needs_file;                      /* has no generated rows */
    bool has_forms;                       /* task.form says something of it */
    /* Tokens of a completion unless the options say otherwise. */
    int64_t (*max_new)(const sow_task_options *options);
    /* file: the bytes of options->file, NULL if it has none; they outlive the state.  Bad rows: "FILE:LINE: ...". */
    sow_code (*open)(const sow_task_options *options, const char *file, size_t file_bytes, sow_task_state **out);
    void (*close)(sow_task_state **state);
    /* Rows there are: for a file its rows from offset on (train or test), else INT64_MAX. */
    int64_t (*n_rows)(const sow_task_state *state);
    /* The prompt of row i (i counts from options->offset), without template and chat. */
    sow_code (*ask)(sow_task_state *state, int64_t row, sow_words *out);
    /* An answer that scores full marks (the task's own solution); for supervised rows, the likelihood of the right
     * answer, and tests.  SOW_EARG if the file's row has none. */
    sow_code (*solve)(sow_task_state *state, int64_t row, sow_words *out);
    /* What the held-out rule looks at: two rows with one key are the same question. */
    sow_code (*key)(sow_task_state *state, int64_t row, sow_words *out);
    /* Grades a completion (the new text only).  Pure.  Never fails on content. */
    sow_code (*grade)(sow_task_state *state, int64_t row, const char *completion, size_t bytes, sow_grade *out);
    /* NULL: rows are answered by generating.  Else a row's answer is the choice whose tokens, with the tail's, have the
     * highest sum of log-probabilities behind the prompt (ties: the first); it is then graded like a completion.
     * Adds to *out, which is empty. */
    sow_code (*choices)(sow_task_state *state, int64_t row, sow_choices *out);
    /* NULL: rows are texts.  Else whether row i is tokens: ids [n], the first n_prompt of them the prompt; borrowed
     * from the state.  Such a row is for supervised training alone: ask, solve and grade refuse it (SOW_EARG). */
    bool (*ids)(const sow_task_state *state, int64_t row, const int32_t **ids, int64_t *n, int64_t *n_prompt);
    /* NULL: no row is of a file.  Else "FILE:LINE" of row i, not ended by NUL, borrowed; false: it was generated. */
    bool (*place)(const sow_task_state *state, int64_t row, const char **text, size_t *bytes);
    /* Grades a row given as JSON with "response" (for `sower grade`): parses the row's fields; SOW_EFORMAT names the
     * field. */
    sow_code (*grade_json)(const sow_task_options *options, const struct sow_json *row, const char *what,
                           sow_grade *out);
} sow_task_kind;

int64_t sow_task_count(void);
const sow_task_kind *sow_task_at(int64_t index);
const sow_task_kind *sow_task_find(const char *name); /* NULL if none */

/* An opened task: kind, options, state. */
typedef struct sow_task sow_task;
/* Opens the task of options->name.  SOW_ECONF for an unknown name (with the nearest), SOW_EIO, SOW_EFORMAT for its
 * file. */
SOW_NODISCARD sow_code sow_task_open(const sow_task_options *options, sow_task **out);
/* The same with the file's bytes at hand (they are copied). */
SOW_NODISCARD sow_code sow_task_open_bytes(const sow_task_options *options, const char *file, size_t file_bytes,
                                           sow_task **out);
void sow_task_close(sow_task **task);
const sow_task_kind *sow_task_kind_of(const sow_task *task);
const sow_task_options *sow_task_options_of(const sow_task *task);
/* Rows in use: min(options->rows, rows there are). */
int64_t sow_task_rows(const sow_task *task);
int64_t sow_task_max_new(const sow_task *task);
/* The prompt with `template` applied.  These three replace what is in *out; row: 0 .. rows-1, else SOW_EARG. */
SOW_NODISCARD sow_code sow_task_prompt(sow_task *task, int64_t row, sow_words *out);
SOW_NODISCARD sow_code sow_task_solve(sow_task *task, int64_t row, sow_words *out);
SOW_NODISCARD sow_code sow_task_key(sow_task *task, int64_t row, sow_words *out);
/* Whether a row is tokens (1 <= n_prompt < n, ids >= 0; the caller compares them with its vocabulary); then ids [n],
 * borrowed until the task is closed.  Else it is text: sow_task_prompt and sow_task_solve. */
SOW_NODISCARD sow_code sow_task_ids(const sow_task *task, int64_t row, const int32_t **ids, int64_t *n,
                                    int64_t *n_prompt, bool *has);
/* Where a row in use is from, for messages, into out: "FILE:LINE", or "task NAME, row I" of a generated one. */
enum { SOW_TASK_PLACE_BYTES = SOW_TEXT + 32 };
const char *sow_task_place(const sow_task *task, int64_t row, char out[SOW_TASK_PLACE_BYTES]);
/* Whether all rows in use are texts, so that they can be asked. */
bool sow_task_is_text(const sow_task *task);
/* Whether its rows are answered by choosing, and a row's choices (what is in *out is replaced). */
bool sow_task_has_choices(const sow_task *task);
SOW_NODISCARD sow_code sow_task_choices(sow_task *task, int64_t row, sow_choices *out);
/* Allocates nothing. */
SOW_NODISCARD sow_code sow_task_grade(sow_task *task, int64_t row, const char *completion, size_t bytes,
                                      sow_grade *out);
/* The same task on its held-out rows (split test), `rows` of them; *has false if it has none (a file without them). */
SOW_NODISCARD sow_code sow_task_open_held_out(const sow_task *task, int64_t rows, sow_task **out, bool *has);

#endif
