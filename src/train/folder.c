/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/folder.h"

#include "train_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"
#include "sower/lock.h"
#include "sower/words.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const line_names[SOW_N_LINES] = {
#define LINES(name, file) file,
    SOW_FOLDER_LINES(LINES)
#undef LINES
};
static const char *const state_names[] = {"running", "done", "resubmit", "failed", "died"};

struct sow_folder {
    char *path;                       /* owned */
    sow_lock *lock;                   /* owned; NULL: not held */
    sow_appender *lines[SOW_N_LINES]; /* owned; NULL: not opened yet */
    int64_t kept_bytes[SOW_N_LINES];
};

const char *sow_state_name(sow_state state)
{
    return state_names[state];
}

static sow_code make(const char *path, sow_folder **out)
{
    sow_folder *f = NULL;
    SOW_TRY(SOW_ALLOC(&f, 1));
    sow_code rc = sow_alloc_string(&f->path, path);
    if (rc != SOW_OK)
        sow_folder_close(&f);
    else
        *out = f;
    return rc;
}

sow_code sow_folder_check_new(const char *path)
{
    if (!sow_file_is_taken(path))
        return SOW_OK;
    return SOW_FAIL(SOW_ECONF, "%s: exists already, expected a new or empty folder (--out), or --resume to go on",
                    path);
}

sow_code sow_folder_create(const char *path, sow_folder **out)
{
    sow_folder *f = NULL;
    char checkpoints[SOW_TEXT];
    sow_code rc = SOW_OK;
    SOW_TRY(sow_folder_check_new(path));
    SOW_TRY(make(path, &f));
    SOW_TRY_OR(rc, sow_folder_file(f, "checkpoints", checkpoints));
    SOW_TRY_OR(rc, sow_file_make_folder(checkpoints));
done:
    if (rc != SOW_OK)
        sow_folder_close(&f);
    else
        *out = f;
    return rc;
}

sow_code sow_folder_open(const char *path, sow_folder **out)
{
    if (!sow_file_is_folder(path))
        return SOW_FAIL(SOW_ECONF, "%s: is not the folder of a run", path);
    return make(path, out);
}

void sow_folder_close(sow_folder **folder)
{
    sow_folder *f = *folder;
    if (f == NULL)
        return;
    for (int i = 0; i < SOW_N_LINES; i++)
        sow_appender_close(&f->lines[i]);
    sow_lock_release(&f->lock);
    SOW_FREE(&f->path);
    SOW_FREE(folder);
}

sow_code sow_folder_lock(sow_folder *f)
{
    char path[SOW_TEXT];
    SOW_TRY(sow_folder_file(f, "lock", path));
    return sow_lock_take(path, &f->lock);
}

sow_code sow_folder_file(const sow_folder *f, const char *name, char out[SOW_TEXT])
{
    return sow_file_join(f->path, name, out, SOW_TEXT);
}

sow_code sow_folder_write_status(const sow_folder *f, const sow_status *status)
{
    char path[SOW_TEXT];
    sow_line *line = NULL;
    sow_words text = {0};
    const char *built = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_folder_file(f, "status.json", path));
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "state", state_names[status->state]);
    sow_line_int(line, "step", status->step);
    sow_line_int(line, "steps", status->steps);
    if (status->num_tokens >= 0)
        sow_line_int(line, "num_tokens", status->num_tokens);
    else
        sow_line_null(line, "num_tokens");
    sow_line_string(line, "reason", status->reason);
    sow_line_string(line, "verdict", status->verdict);
    sow_line_string(line, "verdict_reasons", status->verdict_reasons);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_line_text(line, &built));
    SOW_TRY_OR(rc, sow_words_print(&text, "%s\n", built));
    SOW_TRY_OR(rc, sow_file_write(path, text.text, text.bytes));
done:
    sow_words_fini(&text);
    sow_line_destroy(&line);
    return rc;
}

static void copy_text(const sow_json *json, const char *key, char *out, size_t cap)
{
    const char *text = sow_json_to_string(sow_json_get(json, key), NULL);
    (void)snprintf(out, cap, "%s", text == NULL ? "" : text);
}

sow_code sow_folder_read_status(const char *path, sow_status *out)
{
    char file[SOW_TEXT], lock[SOW_TEXT], state[16];
    sow_json *json = NULL;
    sow_code rc = SOW_OK;
    int i = 0;
    SOW_TRY(sow_file_join(path, "status.json", file, sizeof file));
    SOW_TRY(sow_file_join(path, "lock", lock, sizeof lock));
    const sow_lock_state held = sow_lock_look(lock); /* first: a run that ends now has written so */
    SOW_TRY(sow_json_load(file, &json));
    sow_status s = {.step = -1, .num_tokens = -1};
    copy_text(json, "state", state, sizeof state);
    while (i < SOW_STATE_DIED && strcmp(state_names[i], state) != 0)
        i++;
    if (i == SOW_STATE_DIED || !sow_json_to_int(sow_json_get(json, "step"), &s.step) ||
        !sow_json_to_int(sow_json_get(json, "steps"), &s.steps)) {
        rc = SOW_FAIL(SOW_EFORMAT, "%s: state: '%s', expected running, done, resubmit or failed with step and steps",
                      file, state);
        goto done;
    }
    s.state = i == SOW_STATE_RUNNING && held == SOW_LOCK_FREE ? SOW_STATE_DIED : (sow_state)i;
    if (!sow_json_to_int(sow_json_get(json, "num_tokens"), &s.num_tokens))
        s.num_tokens = -1;
    copy_text(json, "reason", s.reason, sizeof s.reason);
    copy_text(json, "verdict", s.verdict, sizeof s.verdict);
    copy_text(json, "verdict_reasons", s.verdict_reasons, sizeof s.verdict_reasons);
    *out = s;
done:
    sow_json_destroy(&json);
    return rc;
}

/* Bytes of the lines whose step is at most keep_step; lines come in order of steps, a torn one ends the file. */
static sow_code measure_lines(const char *path, int64_t keep_step, int64_t *keep_bytes, int64_t *last_step)
{
    sow_mapping map = {0};
    *keep_bytes = 0;
    *last_step = -1;
    if (!sow_file_exists(path))
        return SOW_OK;
    SOW_TRY(sow_file_map(path, &map));
    for (size_t at = 0; at < map.bytes;) {
        const char *text = (const char *)map.data + at, *newline = memchr(text, '\n', map.bytes - at);
        sow_json *json = NULL;
        int64_t step = INT64_MAX;
        if (newline == NULL || sow_json_parse(text, (size_t)(newline - text), path, &json) != SOW_OK)
            break;
        bool is_kept = sow_json_to_int(sow_json_get(json, "step"), &step) && step <= keep_step;
        sow_json_destroy(&json);
        if (!is_kept)
            break;
        *last_step = step;
        at += (size_t)(newline - text) + 1;
        *keep_bytes = (int64_t)at;
    }
    sow_file_unmap(&map);
    return SOW_OK;
}

sow_code sow_folder_open_lines(sow_folder *f, int64_t keep_step, int64_t *last_step)
{
    char path[SOW_TEXT];
    int64_t last = -1;
    for (int i = 0; i < SOW_N_LINES; i++) {
        SOW_TRY(sow_folder_file(f, line_names[i], path));
        SOW_TRY(measure_lines(path, keep_step, &f->kept_bytes[i], &last));
        keep_step = i == SOW_LINES_METRICS ? last : keep_step;
        if (i == SOW_LINES_METRICS || sow_file_exists(path)) /* what lies behind is cut off now */
            SOW_TRY(sow_appender_open(path, f->kept_bytes[i], false, &f->lines[i]));
    }
    if (last_step != NULL)
        *last_step = keep_step;
    return SOW_OK;
}

sow_code sow_folder_append(sow_folder *f, sow_lines which, sow_line *line)
{
    const char *text = NULL;
    char path[SOW_TEXT];
    SOW_TRY(sow_line_text(line, &text));
    if (f->lines[which] == NULL) {
        SOW_TRY(sow_folder_file(f, line_names[which], path));
        SOW_TRY(sow_appender_open(path, 0, false, &f->lines[which]));
    }
    return sow_appender_line(f->lines[which], text);
}

sow_code sow_folder_first(const sow_folder *f, sow_lines which, sow_json **out)
{
    char path[SOW_TEXT];
    sow_mapping map = {0};
    *out = NULL;
    SOW_TRY(sow_folder_file(f, line_names[which], path));
    if (f->kept_bytes[which] == 0)
        return SOW_OK;
    SOW_TRY(sow_file_map(path, &map));
    const char *text = (const char *)map.data, *newline = memchr(text, '\n', map.bytes);
    sow_code rc = newline == NULL ? SOW_OK : sow_json_parse(text, (size_t)(newline - text), path, out);
    sow_file_unmap(&map);
    return rc;
}

/* "step-00000050.safetensors" -> 50, else -1. */
static int64_t step_of_name(const char *name)
{
    long long step = -1;
    int used = 0;
    if (sscanf(name, "step-%8lld.safetensors%n", &step, &used) != 1 || name[used] != '\0' || used == 0)
        return -1;
    return step;
}

sow_code sow_folder_checkpoint(const sow_folder *f, int64_t step, char out[SOW_TEXT])
{
    char name[64];
    (void)snprintf(name, sizeof name, "checkpoints/step-%08lld.safetensors", (long long)step);
    return sow_folder_file(f, name, out);
}

sow_code sow_folder_moment(const sow_folder *f, int which, int64_t step, char out[SOW_TEXT])
{
    static const char *const names[SOW_N_MOMENTS] = {"exp_avg", "exp_avg_sq"};
    char name[96];
    (void)snprintf(name, sizeof name, "checkpoints/step-%08lld.%s.safetensors", (long long)step, names[which]);
    return sow_folder_file(f, name, out);
}

sow_code sow_folder_find_checkpoint(const sow_folder *f, int64_t max_step, char out[SOW_TEXT], int64_t *step)
{
    char path[SOW_TEXT];
    SOW_TRY(sow_folder_file(f, "checkpoints", path));
    *step = -1;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? SOW_OK : SOW_FAIL(SOW_EIO, "%s: cannot list: %s", path, strerror(errno));
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        int64_t found = step_of_name(entry->d_name);
        if (found <= max_step && found > *step)
            *step = found;
    }
    (void)closedir(dir);
    return *step < 0 ? SOW_OK : sow_folder_checkpoint(f, *step, out);
}

void sow_folder_prune_checkpoints(const sow_folder *f, int64_t newest, int64_t keep)
{
    char path[SOW_TEXT];
    int64_t oldest = newest, step = -1;
    for (int64_t kept = 1; kept < keep; kept++, oldest = step)
        if (sow_folder_find_checkpoint(f, oldest - 1, path, &step) != SOW_OK || step < 0)
            return;
    while (sow_folder_find_checkpoint(f, oldest - 1, path, &step) == SOW_OK && step >= 0) {
        if (unlink(path) != 0)
            return;
        for (int which = 0; which < SOW_N_MOMENTS; which++)
            if (sow_folder_moment(f, which, step, path) == SOW_OK)
                (void)unlink(path);
    }
}

bool sow_eval_is_due(int64_t every, int64_t step, int64_t steps)
{
    return step == 0 || step == steps || (every > 0 && step % every == 0);
}

/* What a run writes beside its metrics, and when. */
static const struct {
    sow_lines lines;
    const char *key; /* an object of every line */
    bool (*is_due)(const sow_options *options, int64_t step);
} planned[] = {{SOW_LINES_KL, "probes", sow_kl_is_due}, {SOW_LINES_SPECTRA, "tensors", sow_spectra_are_due}};

static void add_reason(sow_status *status, int64_t step, const char *what)
{
    size_t used = strlen(status->verdict_reasons);
    int n = snprintf(status->verdict_reasons + used, sizeof status->verdict_reasons - used, "%s", used > 0 ? "; " : "");
    used += n > 0 ? (size_t)n : 0;
    if (used < sizeof status->verdict_reasons)
        (void)snprintf(status->verdict_reasons + used, sizeof status->verdict_reasons - used,
                       "step %lld: %s is missing", (long long)step, what);
}

static void judge_step(const sow_json *line, int64_t step, const sow_options *options, int64_t *n_missing,
                       sow_status *status)
{
    const sow_json *probes = sow_json_get(line, "probes");
    for (int64_t i = 0; i < options->n_probes; i++) {
        double accuracy = 0;
        if (!sow_eval_is_due(options->probes[i].every, step, options->run.steps))
            continue;
        const sow_json *probe = sow_json_at(probes, i);
        bool is_whole = sow_json_to_real(sow_json_get(probe, "accuracy"), &accuracy) &&
                        sow_json_to_real(sow_json_get(probe, "lost"), &accuracy);
        if (!is_whole && (*n_missing)++ < 3)
            add_reason(status, step, options->probes[i].task.name);
    }
    double norm = 0;
    if (step > 0 && !sow_json_to_real(sow_json_get(line, "norm"), &norm) && (*n_missing)++ < 3)
        add_reason(status, step, "norm");
}

/* The next line of a file from *at on: its step if it holds `key`, else -1. */
static int64_t next_step(const sow_mapping *map, size_t *at, const char *path, const char *key)
{
    const char *text = (const char *)map->data + *at, *newline = memchr(text, '\n', map->bytes - *at);
    size_t bytes = newline == NULL ? map->bytes - *at : (size_t)(newline - text);
    sow_json *json = NULL;
    int64_t step = -1;
    *at += bytes + (newline != NULL);
    if (sow_json_parse(text, bytes, path, &json) != SOW_OK || sow_json_get(json, key) == NULL ||
        !sow_json_to_int(sow_json_get(json, "step"), &step))
        step = -1;
    sow_json_destroy(&json);
    return step;
}

/* Whether one of the planned files has its steps; a run that went on may have more. */
static sow_code judge_lines(const sow_folder *f, const sow_options *options, size_t which, int64_t *n_missing,
                            sow_status *status)
{
    const char *name = line_names[planned[which].lines];
    char path[SOW_TEXT];
    sow_mapping map = {0};
    size_t at = 0;
    int64_t found = -1;
    SOW_TRY(sow_folder_file(f, name, path));
    if (sow_file_exists(path))
        SOW_TRY(sow_file_map(path, &map));
    for (int64_t step = 0; step <= options->run.steps; step++) {
        if (!planned[which].is_due(options, step))
            continue;
        while (found < step && at < map.bytes)
            found = next_step(&map, &at, path, planned[which].key);
        if (found != step && (*n_missing)++ < 3)
            add_reason(status, step, name);
    }
    sow_file_unmap(&map);
    return SOW_OK;
}

sow_code sow_folder_judge(const sow_folder *f, const sow_options *options, sow_status *status)
{
    char path[SOW_TEXT];
    sow_mapping map = {0};
    int64_t want = 0, n_missing = 0;
    status->verdict_reasons[0] = '\0';
    SOW_TRY(sow_folder_file(f, line_names[SOW_LINES_METRICS], path));
    SOW_TRY(sow_file_map(path, &map));
    for (size_t at = 0; at < map.bytes; want++) {
        const char *text = (const char *)map.data + at, *newline = memchr(text, '\n', map.bytes - at);
        size_t bytes = newline == NULL ? map.bytes - at : (size_t)(newline - text);
        sow_json *json = NULL;
        int64_t step = -1;
        sow_code rc = sow_json_parse(text, bytes, path, &json);
        if (rc != SOW_OK || !sow_json_to_int(sow_json_get(json, "step"), &step) || step != want) {
            add_reason(status, want, "the line of metrics");
            n_missing++;
            sow_json_destroy(&json);
            break;
        }
        judge_step(json, step, options, &n_missing, status);
        sow_json_destroy(&json);
        at += bytes + 1;
    }
    sow_file_unmap(&map);
    if (n_missing == 0 && want != options->run.steps + 1)
        add_reason(status, want, "the line of metrics");
    for (size_t i = 0; i < sizeof planned / sizeof planned[0]; i++)
        SOW_TRY(judge_lines(f, options, i, &n_missing, status));
    (void)snprintf(status->verdict, sizeof status->verdict, "%s",
                   status->verdict_reasons[0] == '\0' ? "VALID" : "INVALID");
    return SOW_OK;
}
