/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of layer `task` share: rows drawn from a seed, rows read from a file, the short lines of the
 * laboratory model, and whole numbers without a limit that matters. */
#ifndef SOWER_TASK_IMPL_H
#define SOWER_TASK_IMPL_H

#include "sower/expression.h"
#include "sower/json.h"
#include "sower/philox.h"
#include "sower/task.h"

/* ---- Rows drawn from a seed (draw.c) ---- */

enum { SOW_KEY_BYTES = 96 };

/* Where a generated row's random numbers lie: a pure function of task, seed, split and number. */
typedef struct sow_row_source {
    const char *name; /* of the task and its form; its crc32 is part of the place */
    uint32_t seed;
    bool is_test;
    int64_t offset; /* of row 0 */
} sow_row_source;

/* Makes one row from random numbers and names it by its key; false: this draw is no legal row, draw again. */
typedef bool (*sow_draw_fn)(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES]);

/* name: static storage. */
sow_row_source sow_row_source_of(const char *name, const sow_task_options *options);
/* Draws row `row` until it is legal and lies on the source's side of the held-out rule.  SOW_ECONF if none is found. */
SOW_NODISCARD sow_code sow_row_draw(const sow_row_source *source, int64_t row, sow_draw_fn draw, const void *how,
                                    void *item, char key[SOW_KEY_BYTES]);
/* A row's numbers from their beginning. */
void sow_row_random(const sow_row_source *source, int64_t row, sow_random *out);
/* The held-out rule: crc32 of the key is 0 mod 10.  The shipped model was trained under it. */
bool sow_row_is_held_out(const char *key);
bool sow_split_is_test(const sow_task_options *options);

/* ---- Rows read from a file (rows.c) ---- */

/* A piece of text in a state's pool. */
typedef struct sow_span {
    size_t at, bytes;
} sow_span;

/* Takes one row, already known to be a JSON object.  what: "FILE:LINE".  is_kept: the row is of the split that was
 * asked for; else it is only checked. */
typedef sow_code (*sow_row_add_fn)(void *owner, const sow_json *row, const char *what, bool is_kept);

/* Reads JSON lines, or one JSON array of rows.  A row's field "split" ("train", "test"; missing: train) says where it
 * belongs.  SOW_EFORMAT "FILE:LINE: ..." for a line that is empty, too long, not JSON or no object. */
SOW_NODISCARD sow_code sow_rows_read(const char *name, const char *file, size_t bytes, bool is_test, sow_row_add_fn add,
                                     void *owner);

/* Fields of a row.  SOW_EFORMAT names the field.  A text is borrowed from the row. */
SOW_NODISCARD sow_code sow_row_text(const sow_json *row, const char *key, const char *what, const char **out,
                                    size_t *bytes);
/* The same, but without NULs in it, so that it is a C string; *out NULL if it is not there and not required. */
SOW_NODISCARD sow_code sow_row_string(const sow_json *row, const char *key, const char *what, bool is_required,
                                      const char **out);
/* The field "prompt", which may not be empty. */
SOW_NODISCARD sow_code sow_row_prompt(const sow_json *row, const char *what, const char **out);
/* Copies a text to the pool. */
SOW_NODISCARD sow_code sow_span_add(sow_words *pool, const char *text, size_t bytes, sow_span *out);

/* ---- Short lines of the laboratory model (skill.c) ---- */

enum { SOW_LINE_BYTES = 64 };

typedef struct sow_line_item {
    char prompt[SOW_LINE_BYTES], answer[SOW_LINE_BYTES];
} sow_line_item;

/* A skill: a prompt with one right answer. */
typedef struct sow_skill {
    const char *name;
    sow_draw_fn draw; /* item: sow_line_item */
    /* The right answer to a prompt as `draw` writes it; false if it is no such prompt. */
    bool (*answer)(const char *prompt, char out[SOW_LINE_BYTES]);
    const char *rows_of; /* the skill whose rows it asks; NULL: its own */
    /* Multiple choice, else NULL: the choices to a right answer.  random: the row's own. */
    sow_code (*choose)(const char *answer, sow_random *random, sow_choices *out);
} sow_skill;

/* Reading a prompt: each moves *at behind what it took, or leaves it and says false. */
bool sow_take_text(const char **at, const char *text);
bool sow_take_number(const char **at, int64_t *out); /* up to 9 digits */
/* One to 32 characters low .. high, into out. */
bool sow_take_letters(const char **at, char low, char high, char out[SOW_LINE_BYTES]);

/* calc's draw, and what it asks: a sum or a difference. */
bool sow_calc_draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES]);
bool sow_calc_value(const char *prompt, int64_t *out);

/* a op b op c with the usual precedence; ops of "+-*". */
int64_t sow_three_numbers(const int64_t numbers[3], const char ops[2]);

SOW_NODISCARD sow_code sow_skill_open(const sow_skill *skill, const sow_task_options *options, const char *file,
                                      sow_task_state **out);
void sow_skill_close(sow_task_state **state);
int64_t sow_skill_max_new(const sow_task_options *options);
int64_t sow_skill_n_rows(const sow_task_state *state);
sow_code sow_skill_ask(sow_task_state *state, int64_t row, sow_words *out);
sow_code sow_skill_solve(sow_task_state *state, int64_t row, sow_words *out);
sow_code sow_skill_key(sow_task_state *state, int64_t row, sow_words *out);
sow_code sow_skill_choices(sow_task_state *state, int64_t row, sow_choices *out);
sow_code sow_skill_grade(sow_task_state *state, int64_t row, const char *completion, size_t bytes, sow_grade *out);
sow_code sow_skill_grade_json(const sow_skill *skill, const sow_json *row, const char *what, sow_grade *out);

/* One row of tasks.def for a skill. */
#define SOW_SKILL_TASK(skill, words)                                                                                   \
    static sow_code open_rows(const sow_task_options *options, const char *file, size_t file_bytes,                    \
                              sow_task_state **out)                                                                    \
    {                                                                                                                  \
        (void)file_bytes;                                                                                              \
        return sow_skill_open(&skill, options, file, out);                                                             \
    }                                                                                                                  \
    static sow_code grade_json(const sow_task_options *options, const sow_json *row, const char *what, sow_grade *out) \
    {                                                                                                                  \
        (void)options;                                                                                                 \
        return sow_skill_grade_json(&skill, row, what, out);                                                           \
    }                                                                                                                  \
    const sow_task_kind sow_task_kind_##skill = {                                                                      \
        .name = #skill,                                                                                                \
        .doc = words,                                                                                                  \
        .max_new = sow_skill_max_new,                                                                                  \
        .open = open_rows,                                                                                             \
        .close = sow_skill_close,                                                                                      \
        .n_rows = sow_skill_n_rows,                                                                                    \
        .ask = sow_skill_ask,                                                                                          \
        .solve = sow_skill_solve,                                                                                      \
        .key = sow_skill_key,                                                                                          \
        .grade = sow_skill_grade,                                                                                      \
        .grade_json = grade_json,                                                                                      \
    }

/* ---- Countdown (countdown.c, countdown_draw.c, countdown_grade.c) ---- */

enum { SOW_MAX_NUMBERS = 32, SOW_SOLUTION_BYTES = 128 };

/* What a Countdown row asks for. */
typedef struct sow_countdown_row {
    int64_t n;
    int64_t numbers[SOW_MAX_NUMBERS];
    double target;
} sow_countdown_row;

/* A generated one. */
typedef struct sow_countdown_item {
    sow_countdown_row row;
    char solution[SOW_SOLUTION_BYTES];
} sow_countdown_item;

typedef struct sow_countdown_range {
    int64_t numbers_min, numbers_max, operand_max;
} sow_countdown_range;

/* sow_draw_fn of both forms; how: a sow_countdown_range, or NULL; item: a sow_countdown_item with row.n 0 at first. */
bool sow_countdown_draw_paper(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES]);
bool sow_countdown_draw_short(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES]);

/* The prompt of form short, "cd 7 11 2 20=" (the last number is the target): of a generated row; and read, false if it
 * is none. */
void sow_countdown_write_short(const sow_countdown_row *row, char out[SOW_LINE_BYTES]);
bool sow_countdown_parse_short(const char *prompt, sow_countdown_row *out);

/* Puts the numbers in ascending order. */
void sow_countdown_sort(sow_countdown_row *row);

/* Grades a completion; pure. */
void sow_countdown_grade_paper(sow_expression *workspace, const sow_countdown_row *row, const char *completion,
                               size_t bytes, sow_grade *out);
void sow_countdown_grade_short(sow_expression *workspace, const sow_countdown_row *row, const char *completion,
                               size_t bytes, sow_grade *out);

/* ---- Numbers (number.c, integer.c, power.c) ---- */

/* The last number written in the text ("1,234.5", "-3", ".5e2"); false if there is none. */
bool sow_number_last(const char *text, size_t bytes, double *out);
/* The text as one number of that form, with nothing before or behind it. */
bool sow_number_whole(const char *text, size_t bytes, double *out);

/* x to the power y for finite x > 0 and finite y, in double-double arithmetic and rounded once: the same bits on every
 * machine, which libm's pow does not promise.  Overflow gives infinity. */
double sow_power(double x, double y);

/* Whole numbers of up to SOW_INTEGER_BITS bits; a few limbs more are room for what stands between. */
enum { SOW_INTEGER_BITS = 16384, SOW_INTEGER_LIMBS = SOW_INTEGER_BITS / 32 + 4 };
typedef struct sow_integer {
    int sign; /* -1, 0, 1 */
    int n;    /* limbs in use; the highest is not 0 */
    uint32_t limb[SOW_INTEGER_LIMBS];
} sow_integer;

/* Every function: false where Python raises, or where the result has more than SOW_INTEGER_BITS bits; then *out is not
 * meaningful.  `out` may be `a`. */
bool sow_integer_parse(const char *digits, size_t n, sow_integer *out);
bool sow_integer_add(const sow_integer *a, const sow_integer *b, sow_integer *out);
bool sow_integer_subtract(const sow_integer *a, const sow_integer *b, sow_integer *out);
bool sow_integer_multiply(const sow_integer *a, const sow_integer *b, sow_integer *out);
bool sow_integer_floor_divide(const sow_integer *a, const sow_integer *b, sow_integer *out);
/* b >= 0. */
bool sow_integer_power(const sow_integer *a, const sow_integer *b, sow_integer *out);
/* a / b, rounded once to the nearest double (ties to even). */
bool sow_integer_true_divide(const sow_integer *a, const sow_integer *b, double *out);
bool sow_integer_to_real(const sow_integer *a, double *out);

#endif
