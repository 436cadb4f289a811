/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the command line that stand in a table. */
#include "app_impl.h"

#include "sower/task.h"

#include <string.h>

enum { MAX_NAMES = 64 };

sow_code sow_app_task(const char *name, const sow_task_kind **out)
{
    const char *names[MAX_NAMES];
    int64_t n = sow_task_count() < MAX_NAMES ? sow_task_count() : MAX_NAMES;
    const sow_task_kind *kind = sow_task_find(name);
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_task_at(i)->name;
    const char *near = sow_words_nearest(name, names, n);
    if (kind == NULL)
        return SOW_FAIL(SOW_EARG, "%s: is no task%s%s%s, see sower info --tasks", name,
                        near != NULL ? "; did you mean " : "", near != NULL ? near : "", near != NULL ? "?" : "");
    *out = kind;
    return SOW_OK;
}

sow_code sow_app_type(const char *flag, const char *name, sow_type *out)
{
    for (int i = 0; i < SOW_N_STORED; i++)
        if (strcmp(sow_type_name((sow_type)i), name) == 0) {
            *out = (sow_type)i;
            return SOW_OK;
        }
    return SOW_FAIL(SOW_EARG, "--%s: '%s' is not right, expected f32, fp16 or bf16", flag, name);
}
