// NEEDS: task text conf base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a file of rows, for every task that reads one: read or refused with one line that names the file; rows
 * that were read can be asked, and their own solution, where they have one, can be graded; no block stays alive.
 *
 * The first byte chooses the task, the split, and how answers are compared. */
#include "fuzz.h"

#include "sower/task.h"

enum { MOST_ROWS = 20 };

static sow_task_options options_of(unsigned choice)
{
    static const char *const names[] = {"countdown", "conciseness", "jsonl", "jsonl"};
    static const char *const matches[] = {"exact", "numeric", "regex", "exact"};
    sow_task_options options = {.seed = 1, .rows = 1000, .numbers_min = 3, .numbers_max = 4};
    (void)snprintf(options.name, sizeof options.name, "%s", names[choice % 4]);
    (void)snprintf(options.file, sizeof options.file, "rows.jsonl");
    (void)snprintf(options.split, sizeof options.split, "%s", choice & 4 ? "test" : "train");
    (void)snprintf(options.match, sizeof options.match, "%s", matches[choice >> 3 & 3]);
    return options;
}

static void use_row(sow_task *task, int64_t row, sow_words *words)
{
    sow_grade grade = {0};
    const int32_t *ids = NULL;
    int64_t n = 0, n_prompt = 0;
    bool has = false;
    FUZZ_CHECK(sow_task_ids(task, row, &ids, &n, &n_prompt, &has) == SOW_OK);
    if (has) {
        for (int64_t i = 0; i < n; i++)
            FUZZ_CHECK(ids[i] >= 0);
        FUZZ_CHECK(n_prompt >= 1 && n_prompt < n);
        FUZZ_CHECK(sow_task_prompt(task, row, words) == SOW_EARG && sow_task_key(task, row, words) == SOW_OK);
        return;
    }
    FUZZ_CHECK(sow_task_prompt(task, row, words) == SOW_OK);
    FUZZ_CHECK(words->bytes > 0);
    FUZZ_CHECK(sow_task_grade(task, row, words->text, words->bytes, &grade) == SOW_OK);
    FUZZ_CHECK(sow_task_key(task, row, words) == SOW_OK);
    sow_code rc = sow_task_solve(task, row, words);
    if (rc != SOW_OK) {
        FUZZ_CHECK(rc == SOW_EARG);
        FUZZ_CHECK_MESSAGE();
        return;
    }
    FUZZ_CHECK(sow_task_grade(task, row, words->text, words->bytes, &grade) == SOW_OK);
    FUZZ_CHECK(grade.is_correct);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    sow_task *task = NULL;
    sow_words words = {0};
    sow_task_options options = options_of(bytes > 0 ? data[0] : 0);
    const char *file = (const char *)data + (bytes > 0);
    sow_code rc = sow_task_open_bytes(&options, file, bytes - (bytes > 0), &task);
    if (rc == SOW_OK) {
        for (int64_t row = 0; row < sow_task_rows(task) && row < MOST_ROWS; row++)
            use_row(task, row, &words);
    } else {
        FUZZ_CHECK(rc == SOW_EFORMAT || rc == SOW_ECONF);
        FUZZ_CHECK_MESSAGE();
        FUZZ_CHECK(strstr(sow_error_text(), "rows.jsonl") != NULL);
    }
    sow_words_fini(&words);
    sow_task_close(&task);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
