/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a task for tests: the table's defaults and a name. */
#ifndef SOWER_TESTS_TASK_OPTIONS_H
#define SOWER_TESTS_TASK_OPTIONS_H

#include "check.h"

#include "sower/task.h"

static inline void task_set(sow_text to, const char *value)
{
    (void)snprintf(to, SOW_TEXT, "%s", value);
}

static inline sow_task_options task_options(const char *name)
{
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_finish(conf, NULL));
    sow_task_options options = sow_conf_options(conf)->task;
    sow_conf_destroy(&conf);
    task_set(options.name, name);
    return options;
}

/* The same with rows from "rows.jsonl", whose content is given beside it. */
static inline sow_task_options task_options_of_file(const char *name)
{
    sow_task_options options = task_options(name);
    task_set(options.file, "rows.jsonl");
    return options;
}

#endif
