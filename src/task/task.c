/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/task.h"

#include "task_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <stdio.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 30 };

#define TASK(name) extern const sow_task_kind sow_task_kind_##name;
#include "tasks.def"
#undef TASK

static const sow_task_kind *const kinds[] = {
#define TASK(name) &sow_task_kind_##name,
#include "tasks.def"
#undef TASK
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

struct sow_task {
    const sow_task_kind *kind;
    sow_task_options options;
    char *file; /* owned; NULL: none */
    size_t file_bytes;
    sow_task_state *state; /* owned */
    int64_t rows;
    sow_words plain; /* a prompt before the template is put around it */
};

int64_t sow_task_count(void)
{
    return N_KINDS;
}

const sow_task_kind *sow_task_at(int64_t index)
{
    return index >= 0 && index < N_KINDS ? kinds[index] : NULL;
}

const sow_task_kind *sow_task_find(const char *name)
{
    for (int64_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

static sow_code unknown_name(const char *name)
{
    const char *names[N_KINDS];
    char list[256] = "";
    size_t at = 0;
    for (int64_t i = 0; i < N_KINDS && at < sizeof list; i++) {
        names[i] = kinds[i]->name;
        int n = snprintf(list + at, sizeof list - at, "%s%s", i == 0 ? "" : ", ", names[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    const char *nearest = sow_words_nearest(name, names, N_KINDS);
    if (nearest == NULL)
        return SOW_FAIL(SOW_ECONF, "task.name: '%s' is no task, expected one of %s", name, list);
    return SOW_FAIL(SOW_ECONF, "task.name: '%s' is no task, expected one of %s; did you mean %s?", name, list, nearest);
}

/* An empty text stands for the default. */
static sow_code check_choice(const char *key, const char *value, const char *a, const char *b, const char *c)
{
    bool is_known =
        value[0] == '\0' || strcmp(value, a) == 0 || strcmp(value, b) == 0 || (c != NULL && strcmp(value, c) == 0);
    if (is_known)
        return SOW_OK;
    return SOW_FAIL(SOW_ECONF, "task.%s: '%s' is unknown, expected %s%s%s%s%s", key, value, a,
                    c == NULL ? " or " : ", ", b, c == NULL ? "" : " or ", c == NULL ? "" : c);
}

static sow_code check_number(const char *key, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high)
        return SOW_OK;
    return SOW_FAIL(SOW_ECONF, "task.%s: %lld is outside [%lld, %lld]", key, (long long)value, (long long)low,
                    (long long)high);
}

/* What every task's options must keep, wherever they came from. */
static sow_code check_options(const sow_task_options *o)
{
    SOW_TRY(check_choice("form", o->form, "paper", "short", NULL));
    SOW_TRY(check_choice("split", o->split, "train", "test", NULL));
    SOW_TRY(check_choice("match", o->match, "exact", "numeric", "regex"));
    SOW_TRY(check_number("seed", o->seed, 0, UINT32_MAX));
    SOW_TRY(check_number("rows", o->rows, 1, 1000000000));
    SOW_TRY(check_number("offset", o->offset, 0, 1000000000000));
    if (o->template[0] != '\0' && strstr(o->template, "{prompt}") == NULL)
        return SOW_FAIL(SOW_ECONF, "task.template: '%s' lacks {prompt}", o->template);
    return SOW_OK;
}

static bool is_tokens(const sow_task *task, int64_t row)
{
    const int32_t *ids = NULL;
    int64_t n = 0, n_prompt = 0;
    return task->kind->ids != NULL && task->kind->ids(task->state, row, &ids, &n, &n_prompt);
}

/* Opens without asking how many rows there are: held-out rows may be none. */
static sow_code open_any(const sow_task_options *options, const char *file, size_t file_bytes, sow_task **out)
{
    sow_code rc = SOW_OK;
    sow_task *task = NULL;
    const sow_task_kind *kind = sow_task_find(options->name);
    if (kind == NULL)
        return unknown_name(options->name);
    SOW_TRY(check_options(options));
    SOW_TRY(SOW_ALLOC(&task, 1));
    task->kind = kind;
    task->options = *options;
    task->file_bytes = file_bytes;
    if (file != NULL) {
        SOW_TRY_OR(rc, SOW_ALLOC(&task->file, file_bytes + 1));
        if (file_bytes > 0)
            memcpy(task->file, file, file_bytes);
    }
    SOW_TRY_OR(rc, kind->open(&task->options, task->file, file_bytes, &task->state));
    task->rows = kind->n_rows(task->state);
    task->rows = options->rows < task->rows ? options->rows : task->rows;
    /* A seed that gives no legal row is told now, not at the first generation. */
    if (task->rows > 0 && !is_tokens(task, 0))
        SOW_TRY_OR(rc, kind->ask(task->state, 0, &task->plain));
    *out = task;
    task = NULL;
done:
    sow_task_close(&task);
    return rc;
}

static sow_code check_rows(const sow_task *task)
{
    const sow_task_options *o = &task->options;
    if (task->rows > 0)
        return SOW_OK;
    if (sow_split_is_test(o))
        return SOW_FAIL(SOW_ECONF,
                        "task.split: test: %s has no held-out row from task.offset %lld on (\"split\": \"test\")",
                        o->file, (long long)o->offset);
    return SOW_FAIL(SOW_ECONF, "task.offset: %lld: %s has no training row from there on", (long long)o->offset,
                    o->file);
}

sow_code sow_task_open_bytes(const sow_task_options *options, const char *file, size_t file_bytes, sow_task **out)
{
    sow_task *task = NULL;
    SOW_TRY(open_any(options, file, file_bytes, &task));
    SOW_ASSERT(task != NULL);
    sow_code rc = check_rows(task);
    if (rc == SOW_OK)
        *out = task;
    else
        sow_task_close(&task);
    return rc;
}

sow_code sow_task_open(const sow_task_options *options, sow_task **out)
{
    char *file = NULL;
    size_t bytes = 0;
    if (options->file[0] != '\0')
        SOW_TRY(sow_file_read(options->file, MAX_FILE_BYTES, &file, &bytes));
    sow_code rc = sow_task_open_bytes(options, file, bytes, out);
    SOW_FREE(&file);
    return rc;
}

sow_code sow_task_open_held_out(const sow_task *task, int64_t rows, sow_task **out, bool *has)
{
    sow_task_options options = task->options;
    sow_task *held_out = NULL;
    (void)snprintf(options.split, sizeof options.split, "test");
    options.offset = 0;
    options.rows = rows;
    SOW_TRY(open_any(&options, task->file, task->file_bytes, &held_out));
    SOW_ASSERT(held_out != NULL);
    *has = held_out->rows > 0;
    if (*has)
        *out = held_out;
    else
        sow_task_close(&held_out);
    return SOW_OK;
}

void sow_task_close(sow_task **task)
{
    if (*task != NULL) {
        if ((*task)->state != NULL)
            (*task)->kind->close(&(*task)->state);
        SOW_FREE(&(*task)->file);
        sow_words_fini(&(*task)->plain);
    }
    SOW_FREE(task);
}

const sow_task_kind *sow_task_kind_of(const sow_task *task)
{
    return task->kind;
}

const sow_task_options *sow_task_options_of(const sow_task *task)
{
    return &task->options;
}

int64_t sow_task_rows(const sow_task *task)
{
    return task->rows;
}

int64_t sow_task_max_new(const sow_task *task)
{
    return task->kind->max_new(&task->options);
}

static sow_code check_row(const sow_task *task, int64_t row)
{
    if (row >= 0 && row < task->rows)
        return SOW_OK;
    return SOW_FAIL(SOW_EARG, "task %s: row %lld is outside 0 to %lld", task->kind->name, (long long)row,
                    (long long)task->rows - 1);
}

/* The template with the prompt in every {prompt}. */
static sow_code fill_template(const char *template, const sow_words *prompt, sow_words *out)
{
    static const char hole[] = "{prompt}";
    for (const char *next = strstr(template, hole); next != NULL; next = strstr(template, hole)) {
        SOW_TRY(sow_words_add(out, template, (size_t)(next - template)));
        SOW_TRY(sow_words_add(out, prompt->text, prompt->bytes));
        template = next + sizeof hole - 1;
    }
    return sow_words_add(out, template, strlen(template));
}

sow_code sow_task_prompt(sow_task *task, int64_t row, sow_words *out)
{
    const char *template = task->options.template;
    SOW_TRY(check_row(task, row));
    sow_words_clear(out);
    if (template[0] == '\0')
        return task->kind->ask(task->state, row, out);
    sow_words_clear(&task->plain);
    SOW_TRY(task->kind->ask(task->state, row, &task->plain));
    return fill_template(template, &task->plain, out);
}

sow_code sow_task_solve(sow_task *task, int64_t row, sow_words *out)
{
    SOW_TRY(check_row(task, row));
    sow_words_clear(out);
    return task->kind->solve(task->state, row, out);
}

sow_code sow_task_key(sow_task *task, int64_t row, sow_words *out)
{
    SOW_TRY(check_row(task, row));
    sow_words_clear(out);
    return task->kind->key(task->state, row, out);
}

sow_code sow_task_ids(const sow_task *task, int64_t row, const int32_t **ids, int64_t *n, int64_t *n_prompt, bool *has)
{
    SOW_TRY(check_row(task, row));
    *has = task->kind->ids != NULL && task->kind->ids(task->state, row, ids, n, n_prompt);
    return SOW_OK;
}

const char *sow_task_place(const sow_task *task, int64_t row, char out[SOW_TASK_PLACE_BYTES])
{
    const char *text = NULL;
    size_t bytes = 0;
    if (task->kind->place != NULL && task->kind->place(task->state, row, &text, &bytes))
        (void)snprintf(out, SOW_TASK_PLACE_BYTES, "%.*s", (int)bytes, text);
    else
        (void)snprintf(out, SOW_TASK_PLACE_BYTES, "task %s, row %lld", task->kind->name, (long long)row);
    return out;
}

bool sow_task_is_text(const sow_task *task)
{
    int64_t row = 0;
    if (task->kind->ids == NULL)
        return true;
    while (row < task->rows && !is_tokens(task, row))
        row++;
    return row == task->rows;
}

bool sow_task_has_choices(const sow_task *task)
{
    return task->kind->choices != NULL;
}

sow_code sow_task_choices(sow_task *task, int64_t row, sow_choices *out)
{
    SOW_TRY(check_row(task, row));
    SOW_ASSERT(task->kind->choices != NULL);
    sow_words_clear(&out->texts);
    out->n = 0;
    out->tail = "";
    return task->kind->choices(task->state, row, out);
}

void sow_choices_fini(sow_choices *choices)
{
    sow_words_fini(&choices->texts);
}

const char *sow_choices_text(const sow_choices *choices, int64_t i, size_t *bytes)
{
    size_t start = i == 0 ? 0 : choices->ends[i - 1];
    *bytes = choices->ends[i] - start;
    return choices->texts.text + start;
}

sow_code sow_choices_add(sow_choices *choices, const char *text, size_t bytes)
{
    if (choices->n == SOW_MAX_CHOICES)
        return SOW_FAIL(SOW_EARG, "a row has more than %d choices", SOW_MAX_CHOICES);
    SOW_TRY(sow_words_add(&choices->texts, text, bytes));
    choices->ends[choices->n++] = choices->texts.bytes;
    return SOW_OK;
}

sow_code sow_task_grade(sow_task *task, int64_t row, const char *completion, size_t bytes, sow_grade *out)
{
    SOW_TRY(check_row(task, row));
    return task->kind->grade(task->state, row, bytes == 0 ? "" : completion, bytes, out);
}
