/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: a share of every member's prompts come from tasks that the model could do before, and their reward counts
 * as the target's does, so that a member which forgets is worth less.
 *
 *     a generation's rows:  target  target  target ... | task 0 .. | task 1 .. | task 2 ..      es.batch together
 *
 * The tasks take turns, so their shares differ by one row at most; their rows are training rows, drawn anew each
 * generation.  They are answered together, as one mixed job. */
#include "train_impl.h"

#include "sower/words.h"

#include <stdio.h>
#include <string.h>

enum { ALL_ROWS = 1000000000 }; /* generated rows have no end; a draw is of 32 bits */

/* The next name of a list into *out (trimmed); NULL at its end, else what follows. */
static const char *next_name(const char *at, char out[SOW_TEXT])
{
    at += strspn(at, " ,");
    if (*at == '\0')
        return NULL;
    size_t n = strcspn(at, ","), used = n;
    while (used > 0 && at[used - 1] == ' ')
        used--;
    (void)snprintf(out, SOW_TEXT, "%.*s", (int)used, at);
    return at + n;
}

sow_code sow_retention_check(const sow_conf *conf)
{
    const sow_options *o = sow_conf_options(conf);
    const char *names[SOW_MAX_NAMES], *at = o->es.retention_tasks;
    char name[SOW_TEXT], expected[SOW_TEXT];
    int64_t n = 0, n_tasks = 0;
    for (int64_t i = 0; i < sow_task_count() && n < SOW_MAX_NAMES; i++)
        if (!sow_task_at(i)->needs_file && sow_task_at(i)->choices == NULL)
            names[n++] = sow_task_at(i)->name;
    while ((at = next_name(at, name)) != NULL) {
        bool is_known = false;
        for (int64_t i = 0; i < n; i++)
            is_known = is_known || strcmp(names[i], name) == 0;
        if (!is_known) {
            const char *near = sow_words_nearest(name, names, n);
            (void)snprintf(expected, sizeof expected,
                           "tasks with generated rows that are answered in words, which %.64s is not%s%.64s%s", name,
                           near == NULL ? "" : " (did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?)");
            return sow_conf_reject(conf, "es.retention_tasks", expected, NULL, 0);
        }
        n_tasks++;
    }
    if (o->es.retention > 0 && (n_tasks < 1 || n_tasks > SOW_MAX_RETENTION)) {
        (void)snprintf(expected, sizeof expected, "1 to %d tasks since es.retention is above 0", SOW_MAX_RETENTION);
        return sow_conf_reject(conf, "es.retention_tasks", expected, NULL, 0);
    }
    return SOW_OK;
}

int64_t sow_retention_rows(const sow_run *run)
{
    double share = run->sgd != NULL ? 0 : run->options->es.retention; /* the batch of other methods has none */
    return (int64_t)(share * (double)sow_run_batch(run) + 0.5);
}

static sow_code check_share(const sow_run *run)
{
    int64_t all = sow_run_batch(run), n = sow_retention_rows(run);
    if (n > 0 && n < all)
        return SOW_OK;
    return SOW_FAIL(SOW_ECONF,
                    "es.retention: %g of %lld rows are %lld, expected at least one row for it and one for the task",
                    run->options->es.retention, (long long)all, (long long)n);
}

sow_code sow_retention_open(sow_run *run)
{
    const sow_options *o = run->options;
    const char *at = o->es.retention_tasks;
    sow_task_options options = o->task;
    int first = -1, job = -1;
    run->retention_job = -1;
    if (o->es.retention == 0)
        return SOW_OK;
    SOW_TRY(check_share(run));
    options.rows = ALL_ROWS;
    options.offset = options.operand_max = 0;
    options.file[0] = options.template[0] = '\0';
    (void)snprintf(options.split, sizeof options.split, "train");
    while ((at = next_name(at, options.name)) != NULL) {
        sow_task *task = NULL;
        SOW_TRY(sow_task_open(&options, &task));
        SOW_TRY(sow_run_add_job(run, task, 0, &job));
        first = first < 0 ? job : first;
        run->n_retention_tasks++;
    }
    return sow_evaluator_mix(run->evaluator, first, run->n_retention_tasks, &run->retention_job);
}

void sow_retention_draw(const sow_run *run, int64_t generation, int64_t n, int64_t *out)
{
    const int64_t n_tasks = run->n_retention_tasks;
    for (int64_t t = 0; n > 0 && t < n_tasks; t++) {
        int64_t mine = n / n_tasks + (t < n % n_tasks);
        sow_draw_distinct(sow_place_of(SOW_STREAM_DATA, run->plan.seed, (uint32_t)generation, 0, 1 + (uint32_t)t),
                          ALL_ROWS, mine, out);
        for (int64_t i = 0; i < mine; i++)
            out[i] = out[i] * n_tasks + t;
        out += mine;
    }
}
