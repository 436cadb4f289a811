/* SPDX-License-Identifier: Apache-2.0 */
/* Multiple choice by log-likelihood: calc's question with four answers, the right one v and three of v +- 1, 2, 9, 10,
 * 20 that are no less than 0, in an order of the row's own: "calc 46+21=" with 67, 66, 77, 57.
 *
 * Row i asks what calc's row i asks.  A probe that does not depend on how a completion is written. */
#include "task_impl.h"

#include <stdio.h>
#include <string.h>

enum { N_OFFSETS = 5, N_CHOICES = 4 };

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    int64_t value = 0;
    if (!sow_calc_value(prompt, &value))
        return false;
    (void)snprintf(out, SOW_LINE_BYTES, "%lld", (long long)value);
    return true;
}

static sow_code choose(const char *right, sow_random *random, sow_choices *out)
{
    static const int64_t offsets[N_OFFSETS] = {1, 2, 9, 10, 20};
    int64_t value = 0, others[2 * N_OFFSETS], n = 0;
    SOW_ASSERT(sow_take_number(&right, &value));
    for (int i = 0; i < N_OFFSETS; i++) {
        others[n++] = value + offsets[i];
        if (value >= offsets[i])
            others[n++] = value - offsets[i];
    }
    sow_random_shuffle(random, others, n, sizeof *others);
    others[N_CHOICES - 1] = value;
    sow_random_shuffle(random, others, N_CHOICES, sizeof *others);
    for (int i = 0; i < N_CHOICES; i++) {
        char text[SOW_LINE_BYTES];
        (void)snprintf(text, sizeof text, "%lld", (long long)others[i]);
        SOW_TRY(sow_choices_add(out, text, strlen(text)));
    }
    return SOW_OK;
}

static const sow_skill mc = {
    .name = "mc", .draw = sow_calc_draw, .answer = answer, .rows_of = "calc", .choose = choose};

static sow_code open_rows(const sow_task_options *options, const char *file, size_t file_bytes, sow_task_state **out)
{
    (void)file_bytes;
    return sow_skill_open(&mc, options, file, out);
}

static sow_code grade_json(const sow_task_options *options, const sow_json *row, const char *what, sow_grade *out)
{
    (void)options;
    return sow_skill_grade_json(&mc, row, what, out);
}

const sow_task_kind sow_task_kind_mc = {
    .name = "mc",
    .doc = "skill of the laboratory model: calc's questions with four answers to choose from, by log-likelihood",
    .max_new = sow_skill_max_new,
    .open = open_rows,
    .close = sow_skill_close,
    .n_rows = sow_skill_n_rows,
    .ask = sow_skill_ask,
    .solve = sow_skill_solve,
    .key = sow_skill_key,
    .grade = sow_skill_grade,
    .grade_json = grade_json,
    .choices = sow_skill_choices,
};
