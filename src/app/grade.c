/* SPDX-License-Identifier: Apache-2.0 */
/* sower grade: what a task's grader says of given responses. */
#include "app_impl.h"

#include "sower/task.h"

static const char *input_file;

static const sow_flag flags[] = {
    {"input", 'i', "F.jsonl", "rows of the task with `response`; - or nothing: stdin", &input_file, NULL},
    {0},
};

static void put_grade(sow_line *line, const sow_task_kind *kind, const sow_grade *grade)
{
    sow_line_real(line, "reward", grade->reward);
    sow_line_bool(line, "correct", grade->is_correct);
    sow_line_begin_object(line, "parts");
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        sow_line_real(line, kind->parts[i], grade->parts[i]);
    sow_line_end_object(line);
}

static sow_code grade_rows(const sow_app *app, const sow_task_kind *kind, const sow_task_options *options,
                           sow_line *line)
{
    sow_input input = {0};
    int64_t n_correct = 0;
    double reward = 0;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_input_load(input_file, &input));
    for (int64_t i = 0; i < input.n; i++) {
        char where[SOW_TEXT];
        sow_grade grade = {0};
        sow_input_where(&input, i, where);
        SOW_TRY_OR(rc, kind->grade_json(options, input.rows[i].json, where, &grade));
        n_correct += grade.is_correct;
        reward += grade.reward;
        if (!app->is_json)
            continue;
        sow_input_begin(line, input.rows[i].json);
        put_grade(line, kind, &grade);
        sow_line_end_object(line);
        SOW_TRY_OR(rc, sow_app_print(line));
    }
    if (!app->is_json)
        rc = sow_app_say("%s: %lld rows, %lld correct, mean reward %.6g\n", kind->name, (long long)input.n,
                         (long long)n_correct, input.n == 0 ? 0.0 : reward / (double)input.n);
done:
    sow_input_fini(&input);
    return rc;
}

static sow_code run(sow_app *app)
{
    sow_options options;
    sow_line *line = NULL;
    const sow_task_kind *kind = NULL;
    SOW_TRY(sow_app_options(app, &options));
    SOW_TRY(sow_app_task(app->words[0], &kind));
    SOW_TRY(sow_line_create(&line));
    sow_code rc = grade_rows(app, kind, &options.task, line);
    sow_line_destroy(&line);
    return rc;
}

const sow_command sow_command_grade = {
    .name = "grade",
    .doc = "what a task's grader says of given responses",
    .usage = "TASK [--input F.jsonl] [--set task.key=value]...",
    .examples = "  sower grade countdown --input answers.jsonl\n"
                "  echo '{\"numbers\": [2, 3], \"target\": 5, \"response\": \"<answer>2+3</answer>\"}' | sower grade "
                "countdown\n",
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
