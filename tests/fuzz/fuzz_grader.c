// NEEDS: task text conf base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a completion, for every task and form: graded without fail, twice the same, within the task's range, and
 * without an allocation.
 *
 * The first byte chooses the row.  Countdown's rows come from a file too, with numbers that make large powers. */
#include "fuzz.h"

#include "sower/expression.h"
#include "sower/task.h"

#include <math.h>

static const char countdown_rows[] =
    "{\"numbers\": [2, 3, 4], \"target\": 10}\n{\"numbers\": [99, 98, 97], \"target\": 5}\n"
    "{\"numbers\": [10, 20, 5, 10, 20], \"target\": 5}\n{\"numbers\": [0], \"target\": 0}\n";
static const char jsonl_rows[] = "{\"prompt\": \"p\", \"answer\": \"42\"}\n{\"prompt\": \"p\", \"answer\": \"-0.5\"}\n";

static sow_grade grade_twice(sow_task *task, int64_t row, const char *text, size_t bytes)
{
    sow_grade first = {0}, second = {0};
    int64_t taken = sow_alloc_taken();
    FUZZ_CHECK(sow_task_grade(task, row, text, bytes, &first) == SOW_OK);
    FUZZ_CHECK(sow_task_grade(task, row, text, bytes, &second) == SOW_OK);
    FUZZ_CHECK(sow_alloc_taken() == taken);
    FUZZ_CHECK(first.reward == second.reward && first.is_correct == second.is_correct);
    return first;
}

static void check_range(const char *name, const sow_grade *grade, size_t bytes)
{
    if (strcmp(name, "conciseness") == 0) {
        FUZZ_CHECK(grade->parts[0] <= (double)bytes && grade->parts[0] >= (double)bytes / 4);
        FUZZ_CHECK(grade->reward <= 0 && grade->is_correct == (grade->reward == 0));
    } else if (strcmp(name, "countdown") == 0) {
        FUZZ_CHECK(grade->parts[0] >= 0 && grade->parts[0] <= 1);
        FUZZ_CHECK(grade->parts[1] == (grade->is_correct ? 1 : 0));
        FUZZ_CHECK(grade->reward == 0.1 * grade->parts[0] + grade->parts[1]);
    } else {
        FUZZ_CHECK(grade->reward == (grade->is_correct ? 1 : 0));
    }
}

/* The tasks, opened once: opening draws rows and would be most of the time. */
enum { MOST_TASKS = 32 };
static sow_task *tasks[MOST_TASKS];
static int64_t n_tasks;
static sow_expression *workspace;

static void open_task(const char *name, const char *form, const char *match, const char *file)
{
    sow_task_options options = {.seed = 1, .rows = 1000, .numbers_min = 3, .numbers_max = 4};
    (void)snprintf(options.name, sizeof options.name, "%s", name);
    (void)snprintf(options.form, sizeof options.form, "%s", form);
    (void)snprintf(options.match, sizeof options.match, "%s", match);
    (void)snprintf(options.file, sizeof options.file, "%s", file == NULL ? "" : "rows.jsonl");
    FUZZ_CHECK(n_tasks < MOST_TASKS);
    FUZZ_CHECK(sow_task_open_bytes(&options, file, file == NULL ? 0 : strlen(file), &tasks[n_tasks++]) == SOW_OK);
}

static void open_tasks(void)
{
    FUZZ_CHECK(sow_expression_create(&workspace) == SOW_OK);
    for (int64_t i = 0; i < sow_task_count(); i++)
        if (!sow_task_at(i)->needs_file)
            open_task(sow_task_at(i)->name, "paper", "exact", NULL);
    open_task("countdown", "short", "exact", NULL);
    open_task("countdown", "paper", "exact", countdown_rows);
    open_task("jsonl", "paper", "exact", jsonl_rows);
    open_task("jsonl", "paper", "numeric", jsonl_rows);
}

static void check_expression(const char *text, size_t bytes)
{
    double value = -77, again = -77;
    bool has_value = sow_expression_value(workspace, text, bytes, &value);
    FUZZ_CHECK(has_value == sow_expression_value(workspace, text, bytes, &again));
    FUZZ_CHECK(has_value ? value == again || (isnan(value) && isnan(again)) : value == -77);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (n_tasks == 0)
        open_tasks();
    const char *text = (const char *)data + (bytes > 0);
    size_t n = bytes - (bytes > 0);
    int64_t row = bytes > 0 ? data[0] : 0;
    for (int64_t i = 0; i < n_tasks; i++) {
        sow_grade grade = grade_twice(tasks[i], row % sow_task_rows(tasks[i]), text, n);
        check_range(sow_task_kind_of(tasks[i])->name, &grade, n);
    }
    check_expression(text, n);
    return 0;
}
