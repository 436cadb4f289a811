/* SPDX-License-Identifier: Apache-2.0 */
#include "items_impl.h"

#include "sower/alloc.h"
#include "sower/hash.h"

#include <string.h>

typedef struct item_set {
    int job;
    int64_t rows;
    char digest[SOW_HASH_HEX]; /* of all prompts */
    char *first, *now;         /* owned, [rows + 1]: '1' right, '0' wrong; step 0, and this step */
    bool has_first, has_now;
    sow_tally likelihood;
} item_set;

struct sow_items {
    sow_evaluator *evaluator; /* borrowed */
    int n;
    item_set *sets; /* owned */
};

/* Of all rows: a chain, each link the hash of the one before and a prompt (of a row of tokens: its key). */
static sow_code digest_rows(sow_task *task, char out[SOW_HASH_HEX])
{
    sow_words prompt = {0};
    bool is_text = sow_task_is_text(task);
    sow_code rc = SOW_OK;
    sow_hash_write((sow_hash){0, 0}, out);
    for (int64_t row = 0; row < sow_task_rows(task); row++) {
        SOW_TRY_OR(rc, is_text ? sow_task_prompt(task, row, &prompt) : sow_task_key(task, row, &prompt));
        SOW_TRY_OR(rc, sow_words_add(&prompt, out, SOW_HASH_HEX - 1));
        sow_hash_write(sow_hash_bytes(prompt.text, prompt.bytes), out);
    }
done:
    sow_words_fini(&prompt);
    return rc;
}

static sow_code open_set(sow_evaluator *evaluator, int job, item_set *set)
{
    sow_task *task = sow_evaluator_task(evaluator, job);
    set->job = job;
    set->rows = sow_task_rows(task);
    SOW_TRY(SOW_ALLOC(&set->first, set->rows + 1));
    SOW_TRY(SOW_ALLOC(&set->now, set->rows + 1));
    memset(set->now, '0', (size_t)set->rows);
    return digest_rows(task, set->digest);
}

sow_code sow_items_create(sow_evaluator *evaluator, const int *jobs, int n, sow_items **out)
{
    sow_items *items = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&items, 1));
    items->evaluator = evaluator;
    SOW_TRY_OR(rc, SOW_ALLOC(&items->sets, n + 1));
    items->n = n;
    for (int i = 0; i < n; i++)
        SOW_TRY_OR(rc, open_set(evaluator, jobs[i], &items->sets[i]));
    *out = items;
    items = NULL;
done:
    sow_items_destroy(&items);
    return rc;
}

void sow_items_destroy(sow_items **items)
{
    if (*items != NULL) {
        for (int i = 0; i < (*items)->n; i++) {
            SOW_FREE(&(*items)->sets[i].first);
            SOW_FREE(&(*items)->sets[i].now);
        }
        SOW_FREE(&(*items)->sets);
    }
    SOW_FREE(items);
}

static item_set *find(const sow_items *items, int job)
{
    for (int i = 0; i < items->n; i++)
        if (items->sets[i].job == job)
            return &items->sets[i];
    return NULL;
}

void sow_items_clear(sow_items *items)
{
    for (int i = 0; i < items->n; i++) {
        items->sets[i].has_now = false;
        memset(&items->sets[i].likelihood, 0, sizeof items->sets[i].likelihood);
    }
}

void sow_items_take(sow_items *items, const sow_unit *unit, const sow_result *result, const sow_tally *tally)
{
    item_set *set = find(items, unit->job & ~SOW_JOB_LIKELIHOOD);
    SOW_ASSERT(set != NULL && unit->count <= SOW_UNIT_BITS && unit->first + unit->count <= set->rows);
    if ((unit->job & SOW_JOB_LIKELIHOOD) != 0) {
        sow_tally_add(&set->likelihood, tally);
        return;
    }
    set->has_now = true;
    for (int32_t i = 0; i < unit->count; i++)
        set->now[unit->first + i] = (result->right >> i & 1) != 0 ? '1' : '0';
}

void sow_items_put(sow_items *items, int64_t step, sow_line *line)
{
    sow_line_begin_array(line, "items");
    for (int i = 0; i < items->n; i++) {
        item_set *set = &items->sets[i];
        if (!set->has_now) {
            sow_line_null(line, NULL);
            continue;
        }
        sow_line_begin_object(line, NULL);
        sow_line_string(line, "task", sow_task_kind_of(sow_evaluator_task(items->evaluator, set->job))->name);
        sow_line_int(line, "rows", set->rows);
        sow_line_string(line, "digest", set->digest);
        sow_line_string(line, "right", set->now);
        sow_line_end_object(line);
        if (step == 0) {
            memcpy(set->first, set->now, (size_t)set->rows);
            set->has_first = true;
        }
    }
    sow_line_end_array(line);
}

static bool is_text(const sow_json *node, const char *text)
{
    const char *is = sow_json_to_string(node, NULL);
    return is != NULL && strcmp(is, text) == 0;
}

/* The record of the set's rows, wherever it stands: probes may have been added or moved since. */
static const char *find_record(const sow_json *list, const item_set *set, const char *task)
{
    for (int64_t i = 0; i < sow_json_size(list); i++) {
        const sow_json *record = sow_json_at(list, i);
        size_t bytes = 0;
        const char *right = sow_json_to_string(sow_json_get(record, "right"), &bytes);
        if (right != NULL && bytes == (size_t)set->rows && is_text(sow_json_get(record, "task"), task) &&
            is_text(sow_json_get(record, "digest"), set->digest))
            return right;
    }
    return NULL;
}

void sow_items_load(sow_items *items, const sow_json *line)
{
    int64_t step = -1;
    if (!sow_json_to_int(sow_json_get(line, "step"), &step) || step != 0)
        return;
    for (int i = 0; i < items->n; i++) {
        item_set *set = &items->sets[i];
        const char *task = sow_task_kind_of(sow_evaluator_task(items->evaluator, set->job))->name;
        const char *right = find_record(sow_json_get(line, "items"), set, task);
        set->has_first = right != NULL;
        if (right != NULL)
            memcpy(set->first, right, (size_t)set->rows);
    }
}

bool sow_items_change(const sow_items *items, int job, sow_change *out)
{
    const item_set *set = find(items, job);
    if (set == NULL || !set->has_first || !set->has_now)
        return false;
    *out = sow_paired_change(set->first, set->now, set->rows);
    return true;
}

bool sow_items_logprob(const sow_items *items, int job, double *per_row, double *per_token)
{
    const item_set *set = find(items, job);
    double n = set == NULL ? 0 : (double)set->likelihood.parts[0] / SOW_PART_SCALE;
    if (n <= 0)
        return false;
    *per_row = (double)set->likelihood.reward / 0x1p32 / n;
    *per_token = (double)set->likelihood.reward / 0x1p32 / (double)set->likelihood.new_tokens;
    return true;
}
