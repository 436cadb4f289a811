/* SPDX-License-Identifier: Apache-2.0 */
/* sower status: where a run stands. */
#include "app_impl.h"

#include "sower/file.h"
#include "sower/table.h"

#include <string.h>

sow_code sow_app_table(const sow_app *app, const char *folder)
{
    sow_table *table = NULL;
    sow_words text = {0};
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_table_read(folder, &table));
    if (app->is_json) {
        SOW_TRY_OR(rc, sow_line_create(&line));
        sow_line_begin_object(line, NULL);
        sow_table_put(line, table);
        sow_line_end_object(line);
        SOW_TRY_OR(rc, sow_app_print(line));
    } else {
        SOW_TRY_OR(rc, sow_table_write(table, &text));
        SOW_TRY_OR(rc, sow_app_say("%s", text.text));
    }
done:
    sow_line_destroy(&line);
    sow_words_fini(&text);
    sow_table_destroy(&table);
    return rc;
}

static sow_code run(sow_app *app)
{
    const char *folder = app->words[0];
    sow_status status;
    char file[SOW_TEXT];
    SOW_TRY(sow_file_join(folder, "status.json", file, sizeof file));
    if (!sow_file_exists(file))
        return SOW_FAIL(SOW_EIO, "%s: is not there, expected the folder of a run", file);
    SOW_TRY(sow_app_table(app, folder));
    SOW_TRY(sow_folder_read_status(folder, &status));
    if (status.state == SOW_STATE_RESUBMIT)
        return SOW_FAIL(SOW_ESTOP, "%s: %s", folder, status.reason);
    if (status.state == SOW_STATE_DIED)
        return SOW_FAIL(SOW_ESTOP, "%s: died at step %lld, goes on with --resume", folder, (long long)status.step);
    if (strcmp(status.verdict, "INVALID") == 0)
        return SOW_FAIL(SOW_EPEER, "%s: INVALID: %s", folder, status.verdict_reasons);
    if (status.state == SOW_STATE_FAILED)
        return SOW_FAIL(SOW_EPEER, "%s: failed: %s", folder, status.reason);
    return SOW_OK;
}

const sow_command sow_command_status = {
    .name = "status",
    .doc = "where a run stands: state, verdict, evaluations, what it answered before and after",
    .usage = "RUN",
    .examples = "  sower status runs/first\n"
                "  sower status runs/first --json | jq .rows[-1].accuracy\n"
                "exit status: 0 done or running, 75 resubmit or died (--resume goes on), 1 failed or INVALID\n",
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
