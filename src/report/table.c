/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/table.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN_BYTES = 140 }; /* of a prompt or a completion in a table */

/* ---- Reading ---- */

typedef sow_code (*line_reader)(sow_table *t, const sow_json *line, const char *what);

/* Every whole line of FOLDER/name; a file that is not there has none. */
static sow_code read_lines(sow_table *t, const char *folder, const char *name, line_reader read)
{
    char path[SOW_TEXT], what[SOW_TEXT + 32];
    sow_mapping map = {0};
    sow_code rc = SOW_OK;
    SOW_TRY(sow_file_join(folder, name, path, sizeof path));
    if (!sow_file_exists(path))
        return SOW_OK;
    SOW_TRY(sow_file_map(path, &map));
    for (size_t at = 0, number = 1; at < map.bytes; number++) {
        const char *text = (const char *)map.data + at, *newline = memchr(text, '\n', map.bytes - at);
        sow_json *json = NULL;
        if (newline == NULL)
            break;
        (void)snprintf(what, sizeof what, "%s:%zu", path, number);
        SOW_TRY_OR(rc, sow_json_parse(text, (size_t)(newline - text), what, &json));
        rc = read(t, json, what);
        sow_json_destroy(&json);
        SOW_TRY_OR(rc, rc);
        at += (size_t)(newline - text) + 1;
    }
done:
    sow_file_unmap(&map);
    return rc;
}

static double number_of(const sow_json *object, const char *key)
{
    double value = (double)NAN;
    (void)sow_json_to_real(sow_json_get(object, key), &value);
    return value;
}

static void copy_name(const sow_json *object, char out[32])
{
    const char *name = sow_json_to_string(sow_json_get(object, "task"), NULL);
    if (name != NULL && out[0] == '\0')
        (void)snprintf(out, 32, "%s", name);
}

/* Accuracies of the probes; how many were measured at this step. */
static int64_t read_probes(sow_table *t, const sow_json *list, sow_table_row *row)
{
    int64_t n = sow_json_size(list) < SOW_MAX_PROBES ? sow_json_size(list) : SOW_MAX_PROBES, n_measured = 0,
            n_prior = 0;
    double sum = 0;
    t->n_probes = n > t->n_probes ? n : t->n_probes;
    for (int64_t i = 0; i < SOW_MAX_PROBES; i++) {
        row->probes[i] = i < n ? number_of(sow_json_at(list, i), "accuracy") : (double)NAN;
        copy_name(sow_json_at(list, i), t->probes[i]);
        n_measured += isfinite(row->probes[i]) ? 1 : 0;
        if (i < n && strcmp(t->probes[i], "mc") != 0) { /* as docs/REPORT.md has it */
            sum += row->probes[i];
            n_prior++;
        }
    }
    row->prior = n_prior > 0 ? sum / (double)n_prior : (double)NAN;
    return n_measured;
}

static sow_code read_metrics(sow_table *t, const sow_json *line, const char *what)
{
    const sow_json *eval = sow_json_get(line, "eval");
    sow_table_row row = {.accuracy = number_of(eval, "accuracy"),
                         .low = number_of(eval, "low"),
                         .high = number_of(eval, "high"),
                         .reward = number_of(eval, "reward"),
                         .reward_low = number_of(eval, "reward_low"),
                         .reward_high = number_of(eval, "reward_high"),
                         .norm = number_of(line, "norm"),
                         .norm_law = number_of(line, "norm_law")};
    if (!sow_json_to_int(sow_json_get(line, "step"), &row.step))
        return SOW_FAIL(SOW_EFORMAT, "%s: step: is missing, expected a whole number", what);
    double speed = number_of(line, "tokens_per_s");
    if (isfinite(speed))
        t->tokens_per_s = speed;
    copy_name(eval, t->task);
    if (read_probes(t, sow_json_get(line, "probes"), &row) == 0 && eval == NULL)
        return SOW_OK;
    SOW_TRY(SOW_GROW(&t->rows, &t->rows_capacity, t->n_rows));
    t->rows[t->n_rows++] = row;
    return SOW_OK;
}

static sow_code copy_text(const sow_json *line, const char *key, char **out)
{
    const char *text = sow_json_to_string(sow_json_get(line, key), NULL);
    SOW_FREE(out);
    return sow_alloc_string(out, text == NULL ? "" : text);
}

/* The first step's samples come first; each later one of the same row takes the place of the one before it. */
static sow_code read_sample(sow_table *t, const sow_json *line, const char *what)
{
    int64_t step = 0, row = 0, i = 0;
    if (!sow_json_to_int(sow_json_get(line, "step"), &step) || !sow_json_to_int(sow_json_get(line, "row"), &row))
        return SOW_FAIL(SOW_EFORMAT, "%s: step or row is missing, expected whole numbers", what);
    while (i < t->n_samples && t->samples[i].row != row)
        i++;
    bool is_first = i == t->n_samples;
    if (is_first) {
        SOW_TRY(SOW_GROW(&t->samples, &t->samples_capacity, i));
        t->samples[i] = (sow_table_sample){.row = row, .steps = {step, -1}};
        t->n_samples++;
        SOW_TRY(copy_text(line, "prompt", &t->samples[i].prompt));
    }
    sow_table_sample *sample = &t->samples[i];
    int which = is_first ? 0 : 1;
    sample->steps[which] = step;
    sample->rewards[which] = number_of(line, "reward");
    return copy_text(line, "completion", &sample->completions[which]);
}

sow_code sow_table_read(const char *folder, sow_table **out)
{
    sow_table *t = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&t, 1));
    t->tokens_per_s = (double)NAN;
    SOW_TRY_OR(rc, sow_folder_read_status(folder, &t->status));
    SOW_TRY_OR(rc, read_lines(t, folder, "metrics.jsonl", read_metrics));
    SOW_TRY_OR(rc, read_lines(t, folder, "samples.jsonl", read_sample));
done:
    if (rc != SOW_OK)
        sow_table_destroy(&t);
    else
        *out = t;
    return rc;
}

void sow_table_destroy(sow_table **table)
{
    sow_table *t = *table;
    if (t == NULL)
        return;
    for (int64_t i = 0; i < t->n_samples; i++) {
        SOW_FREE(&t->samples[i].prompt);
        SOW_FREE(&t->samples[i].completions[0]);
        SOW_FREE(&t->samples[i].completions[1]);
    }
    SOW_FREE(&t->samples);
    SOW_FREE(&t->rows);
    SOW_FREE(table);
}

/* ---- For people ---- */

/* A share as per cent, in `width` columns; a dash if it was not measured. */
static sow_code add_percent(sow_words *out, int width, double share)
{
    return isfinite(share) ? sow_words_print(out, " %*.1f", width, 100 * share)
                           : sow_words_print(out, " %*s", width, "-");
}

static sow_code add_number(sow_words *out, int width, double value)
{
    return isfinite(value) ? sow_words_print(out, " %*.4g", width, value) : sow_words_print(out, " %*s", width, "-");
}

static sow_code add_interval(sow_words *out, int width, int digits, double low, double high)
{
    char text[64] = "-";
    if (isfinite(low) && isfinite(high)) {
        char a[24], b[24];
        (void)snprintf(a, sizeof a, "%.*f", digits, low);
        (void)snprintf(b, sizeof b, "%.*f", digits, high);
        (void)snprintf(text, sizeof text, "[%s, %s]", a, b);
    }
    return sow_words_print(out, " %-*s", width, text);
}

/* One line of text: what is not printable is escaped, what is too long is cut between characters. */
static sow_code add_text(sow_words *out, const char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        unsigned char c = (unsigned char)text[i];
        if (i >= SHOWN_BYTES && (c & 0xc0) != 0x80)
            return sow_words_print(out, " ...");
        if (c == '\n')
            SOW_TRY(sow_words_print(out, "\\n"));
        else if (c < ' ' || c == 0x7f)
            SOW_TRY(sow_words_print(out, "\\x%02x", c));
        else
            SOW_TRY(sow_words_add(out, &text[i], 1));
    }
    return SOW_OK;
}

static sow_code add_status(sow_words *out, const sow_table *t)
{
    const sow_status *s = &t->status;
    SOW_TRY(sow_words_print(out, "%s: %lld of %lld steps", sow_state_name(s->state), (long long)s->step,
                            (long long)s->steps));
    if (s->verdict[0] != '\0')
        SOW_TRY(sow_words_print(out, ", %s", s->verdict));
    if (s->verdict_reasons[0] != '\0')
        SOW_TRY(sow_words_print(out, " (%s)", s->verdict_reasons));
    if (s->reason[0] != '\0')
        SOW_TRY(sow_words_print(out, ": %s", s->reason));
    if (isfinite(t->tokens_per_s))
        SOW_TRY(sow_words_print(out, "; %.0f tokens/s in the last step", t->tokens_per_s));
    return sow_words_print(out, "\n");
}

static sow_code add_head(sow_words *out, const sow_table *t)
{
    bool has_target = t->task[0] != '\0';
    SOW_TRY(sow_words_print(out, "\n%6s", "step"));
    if (has_target)
        SOW_TRY(sow_words_print(out, " %*s %-15s %9s %-19s", 11, t->task, "95 %", "reward", "95 %"));
    for (int64_t i = 0; i < t->n_probes; i++)
        SOW_TRY(sow_words_print(out, " %6s", t->probes[i]));
    if (t->n_probes > 0)
        SOW_TRY(sow_words_print(out, " %6s", "prior"));
    return sow_words_print(out, " %9s %9s\n", "norm", "law");
}

static sow_code add_row(sow_words *out, const sow_table *t, const sow_table_row *row)
{
    SOW_TRY(sow_words_print(out, "%6lld", (long long)row->step));
    if (t->task[0] != '\0') {
        SOW_TRY(add_percent(out, 11, row->accuracy));
        SOW_TRY(add_interval(out, 15, 1, 100 * row->low, 100 * row->high));
        SOW_TRY(add_number(out, 9, row->reward));
        SOW_TRY(add_interval(out, 19, 3, row->reward_low, row->reward_high));
    }
    for (int64_t i = 0; i < t->n_probes; i++)
        SOW_TRY(add_percent(out, 6, row->probes[i]));
    if (t->n_probes > 0)
        SOW_TRY(add_percent(out, 6, row->prior));
    SOW_TRY(add_number(out, 9, row->step == 0 ? 0 : row->norm));
    SOW_TRY(add_number(out, 9, row->step == 0 ? 0 : row->norm_law));
    return sow_words_print(out, "\n");
}

static sow_code add_sample(sow_words *out, const sow_table_sample *sample)
{
    SOW_TRY(sow_words_print(out, "\n"));
    SOW_TRY(add_text(out, sample->prompt));
    for (int i = 0; i < 2 && sample->completions[i] != NULL; i++) {
        SOW_TRY(
            sow_words_print(out, "\n  step %-6lld reward %-8.4g ", (long long)sample->steps[i], sample->rewards[i]));
        SOW_TRY(add_text(out, sample->completions[i]));
    }
    return sow_words_print(out, "\n");
}

sow_code sow_table_write(const sow_table *t, sow_words *out)
{
    SOW_TRY(add_status(out, t));
    if (t->n_rows > 0)
        SOW_TRY(add_head(out, t));
    for (int64_t i = 0; i < t->n_rows; i++)
        SOW_TRY(add_row(out, t, &t->rows[i]));
    if (t->n_rows > 0)
        SOW_TRY(sow_words_print(out, "%s\n",
                                "accuracies in per cent; prior: their mean over the probes; law: alpha sqrt(d T / N)"));
    for (int64_t i = 0; i < t->n_samples; i++)
        SOW_TRY(add_sample(out, &t->samples[i]));
    return SOW_OK;
}

/* ---- For programs ---- */

static void put_row(sow_line *line, const sow_table *t, const sow_table_row *row)
{
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", row->step);
    sow_line_real(line, "accuracy", row->accuracy);
    sow_line_real(line, "low", row->low);
    sow_line_real(line, "high", row->high);
    sow_line_real(line, "reward", row->reward);
    sow_line_real(line, "reward_low", row->reward_low);
    sow_line_real(line, "reward_high", row->reward_high);
    sow_line_begin_array(line, "probes");
    for (int64_t i = 0; i < t->n_probes; i++)
        sow_line_real(line, NULL, row->probes[i]);
    sow_line_end_array(line);
    sow_line_real(line, "prior", row->prior);
    sow_line_real(line, "norm", row->norm);
    sow_line_real(line, "norm_law", row->norm_law);
    sow_line_end_object(line);
}

static void put_sample(sow_line *line, const sow_table_sample *sample)
{
    static const char *const keys[] = {"first", "last"};
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "row", sample->row);
    sow_line_string(line, "prompt", sample->prompt);
    for (int i = 0; i < 2 && sample->completions[i] != NULL; i++) {
        sow_line_begin_object(line, keys[i]);
        sow_line_int(line, "step", sample->steps[i]);
        sow_line_string(line, "completion", sample->completions[i]);
        sow_line_real(line, "reward", sample->rewards[i]);
        sow_line_end_object(line);
    }
    sow_line_end_object(line);
}

void sow_table_put(sow_line *line, const sow_table *t)
{
    const sow_status *s = &t->status;
    sow_line_string(line, "state", sow_state_name(s->state));
    sow_line_int(line, "step", s->step);
    sow_line_int(line, "steps", s->steps);
    sow_line_string(line, "reason", s->reason);
    sow_line_string(line, "verdict", s->verdict);
    sow_line_string(line, "verdict_reasons", s->verdict_reasons);
    sow_line_string(line, "task", t->task);
    sow_line_begin_array(line, "probes");
    for (int64_t i = 0; i < t->n_probes; i++)
        sow_line_string(line, NULL, t->probes[i]);
    sow_line_end_array(line);
    sow_line_real(line, "tokens_per_s", t->tokens_per_s);
    sow_line_begin_array(line, "rows");
    for (int64_t i = 0; i < t->n_rows; i++)
        put_row(line, t, &t->rows[i]);
    sow_line_end_array(line);
    sow_line_begin_array(line, "samples");
    for (int64_t i = 0; i < t->n_samples; i++)
        put_sample(line, &t->samples[i]);
    sow_line_end_array(line);
}
