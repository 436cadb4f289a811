/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of one configuration are one group: they differ in their seeds only, and numbers are means over them.
 *
 * A group is named by what tells it from the others: settings that determine the result are tried before the others,
 * and of these such as are no default in few groups; one is named only if it tells groups apart that had one name so
 * far, and only where it is not the default.  So nine arms of a study are "es", "es, anchor l2", "grpo", and not nine
 * lists of numbers. */
#include "report_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN_VALUE = 32, WORD = 64 };

sow_code report_warn(report *r, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    SOW_TRY(SOW_GROW(&r->warnings, &r->warnings_capacity, r->n_warnings));
    SOW_TRY(sow_alloc_string(&r->warnings[r->n_warnings], text));
    r->n_warnings++;
    return SOW_OK;
}

/* Seeds, and what only says where and how fast: the same run has the same numbers whatever these are. */
bool report_setting_is_idle(const char *key)
{
    static const char *const keys[] = {"run.seed",    "task.seed",      "run.out",
                                       "run.threads", "run.max_hours",  "run.deadline_s",
                                       "run.fault",   "run.samples",    "run.checkpoint_every",
                                       "la.kernel",   "generate.batch", "run.ranks_per_node"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

/* What a setting is compared by: a model by its weights, wherever they lie. */
static const char *compared(const report_run *run, const char *key)
{
    const char *digest = report_run_fact(run, "model_digest");
    return strcmp(key, "model.path") == 0 && digest[0] != '\0' ? digest : report_run_setting(run, key);
}

static bool differs(const report_run *a, const report_run *b, const char *key)
{
    const char *x = compared(a, key), *y = compared(b, key);
    return x == NULL || y == NULL ? x != y : strcmp(x, y) != 0;
}

static bool is_of_group(const report_run *a, const report_run *b)
{
    if (!a->has_options || !b->has_options || a->n_settings != b->n_settings)
        return false;
    for (int64_t i = 0; i < a->n_settings; i++)
        if (!report_setting_is_idle(a->settings[i].key) && differs(a, b, a->settings[i].key))
            return false;
    return true;
}

/* ---- Names ---- */

static const report_setting *find_setting(const report_run *run, const char *key)
{
    for (int64_t i = 0; i < run->n_settings; i++)
        if (strcmp(run->settings[i].key, key) == 0)
            return &run->settings[i];
    return NULL;
}

/* Cuts a text to at most `bytes`, between characters. */
static void cut(char *text, size_t bytes)
{
    if (strlen(text) <= bytes)
        return;
    while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
        bytes--;
    text[bytes] = '\0';
}

static void add_words(char name[REPORT_NAME], const char *comma, const char *words)
{
    size_t used = strlen(name);
    (void)snprintf(name + used, REPORT_NAME - used, "%s%s", used > 0 ? comma : "", words);
    cut(name, REPORT_NAME - 16);
}

/* "anchor" of es.anchor, "task" of task.name, "probe 2 rows" of probes[1].rows, "model" of model.path. */
static void word_key(const char *key, char out[WORD])
{
    const char *dot = strrchr(key, '.');
    long long probe = 0;
    if (sscanf(key, "probes[%lld].", &probe) == 1 && dot != NULL)
        (void)snprintf(out, WORD, "probe %lld%s%.32s", probe + 1, strcmp(dot, ".task") == 0 ? "" : " ",
                       strcmp(dot, ".task") == 0 ? "" : dot + 1);
    else if (strcmp(key, "model.path") == 0 || strcmp(key, "task.name") == 0)
        (void)snprintf(out, WORD, "%.*s", (int)strcspn(key, "."), key);
    else
        (void)snprintf(out, WORD, "%.32s", dot == NULL ? key : dot + 1);
}

/* "anchor l2", "mirrored", "no mirrored", "model sprout"; "" for a default. */
static void word_setting(const report_run *run, const char *key, char out[REPORT_NAME])
{
    const report_setting *s = find_setting(run, key);
    char value[SOW_TEXT], word[WORD];
    const char *slash = NULL;
    out[0] = '\0';
    if (s == NULL || strcmp(s->value, s->default_value) == 0)
        return;
    (void)snprintf(value, sizeof value, "%s", s->value);
    slash = strcmp(key, "model.path") == 0 ? strrchr(value, '/') : NULL;
    memmove(value, slash == NULL ? value : slash + 1, strlen(slash == NULL ? value : slash + 1) + 1);
    cut(value, SHOWN_VALUE);
    word_key(key, word);
    if (strcmp(key, "method") == 0)
        (void)snprintf(out, REPORT_NAME, "%s", value);
    else if (strcmp(value, "true") == 0)
        (void)snprintf(out, REPORT_NAME, "%s", word);
    else if (strcmp(value, "false") == 0)
        (void)snprintf(out, REPORT_NAME, "no %s", word);
    else
        (void)snprintf(out, REPORT_NAME, "%s %.60s", word, value[0] != '\0' ? value : "none");
    for (char *c = out; *c != '\0'; c++)
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
}

/* The settings that names are made of. */
typedef struct key_list {
    const char *keys[16];
    int n;
} key_list;

static const report_run *first_run(const report *r, int64_t group)
{
    return &r->runs[r->groups[group].first];
}

static bool are_told_apart(const report *r, const key_list *chosen, int64_t a, int64_t b)
{
    for (int i = 0; i < chosen->n; i++)
        if (differs(first_run(r, a), first_run(r, b), chosen->keys[i]))
            return true;
    return false;
}

/* Whether the key tells two groups apart that the chosen ones do not. */
static bool is_of_use(const report *r, const key_list *chosen, const char *key)
{
    for (int64_t a = 0; a < r->n_groups; a++)
        for (int64_t b = a + 1; b < r->n_groups; b++)
            if (differs(first_run(r, a), first_run(r, b), key) && !are_told_apart(r, chosen, a, b))
                return true;
    return false;
}

/* How many groups would have the setting in their names: those in which it is no default. */
static int64_t count_named(const report *r, const char *key)
{
    int64_t n = 0;
    for (int64_t g = 0; g < r->n_groups; g++) {
        const report_setting *s = find_setting(first_run(r, g), key);
        n += s != NULL && strcmp(s->value, s->default_value) != 0;
    }
    return n;
}

/* A model's path is free of consequence, its weights are not; probes only look on. */
static bool is_of_no_result(const report_setting *s)
{
    return (s->is_free && strcmp(s->key, "model.path") != 0) || strncmp(s->key, "probes[", 7) == 0;
}

/* The useful setting of a kind (those that determine the result, or the others) that fewest names would have, and one
 * of them at least; NULL: no more is of use. */
static const char *find_best(const report *r, bool is_free, const key_list *chosen)
{
    const char *best = NULL;
    int64_t least = INT64_MAX;
    for (int64_t g = 0; g < r->n_groups; g++) {
        const report_run *run = first_run(r, g);
        for (int64_t i = 0; i < run->n_settings; i++) {
            const report_setting *s = &run->settings[i];
            if (is_of_no_result(s) != is_free || report_setting_is_idle(s->key) || !is_of_use(r, chosen, s->key) ||
                count_named(r, s->key) >= least || count_named(r, s->key) == 0)
                continue;
            best = s->key;
            least = count_named(r, s->key);
        }
    }
    return best;
}

static void choose(const report *r, bool is_free, key_list *chosen)
{
    const char *best = find_best(r, is_free, chosen);
    while (best != NULL && chosen->n < (int)(sizeof chosen->keys / sizeof *chosen->keys)) {
        chosen->keys[chosen->n++] = best;
        best = find_best(r, is_free, chosen);
    }
}

static bool is_taken(const report *r, int64_t group)
{
    for (int64_t i = 0; i < group; i++)
        if (strcmp(r->groups[i].name, r->groups[group].name) == 0)
            return true;
    return false;
}

static void name_groups(report *r)
{
    key_list chosen = {.keys = {"method"}, .n = 1};
    choose(r, false, &chosen);
    choose(r, true, &chosen);
    for (int64_t g = 0; g < r->n_groups; g++) {
        report_group *group = &r->groups[g];
        const report_run *run = first_run(r, g);
        char words[REPORT_NAME];
        (void)snprintf(group->name, REPORT_NAME, "%.100s", run->has_options ? run->options.method : run->name);
        for (int i = 1; run->has_options && i < chosen.n; i++) {
            word_setting(run, chosen.keys[i], words);
            if (words[0] != '\0')
                add_words(group->name, ", ", words);
        }
        size_t length = strlen(group->name);
        for (int n = 2; is_taken(r, g); n++)
            (void)snprintf(group->name + length, REPORT_NAME - length, " (%d)", n);
    }
}

/* Groups of a method stand together, and the one whose name is the method's alone before the others. */
static int64_t rank_of(const report *r, int64_t group)
{
    const char *method = first_run(r, group)->options.method;
    int64_t first = 0;
    while (strcmp(first_run(r, first)->options.method, method) != 0)
        first++;
    return 2 * first + (strcmp(r->groups[group].name, method) != 0);
}

static sow_code sort_groups(report *r)
{
    report_group *sorted = NULL;
    int64_t *places = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&sorted, r->n_groups + 1));
    SOW_TRY_OR(rc, SOW_ALLOC(&places, r->n_groups + 1));
    for (int64_t g = 0; g < r->n_groups; g++) {
        for (int64_t i = 0; i < r->n_groups; i++)
            places[g] += rank_of(r, i) < rank_of(r, g) || (rank_of(r, i) == rank_of(r, g) && i < g);
        sorted[places[g]] = r->groups[g];
    }
    for (int64_t i = 0; i < r->n_runs; i++)
        r->runs[i].group = places[r->runs[i].group];
    memcpy(r->groups, sorted, (size_t)r->n_groups * sizeof *sorted);
done:
    SOW_FREE(&places);
    SOW_FREE(&sorted);
    return rc;
}

/* Two runs may lie in folders of one name: the second is NAME (2). */
static sow_code name_runs(report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++) {
        int n = 1;
        for (int64_t j = 0; j < i; j++)
            n += strcmp(r->runs[j].folder, r->runs[i].folder) != 0 &&
                 strncmp(r->runs[j].name, r->runs[i].name, strlen(r->runs[i].name)) == 0 &&
                 strchr(" ", r->runs[j].name[strlen(r->runs[i].name)]) != NULL;
        if (n == 1)
            continue;
        sow_words name = {0};
        sow_code rc = sow_words_print(&name, "%s (%d)", r->runs[i].name, n);
        if (rc == SOW_OK) {
            SOW_FREE(&r->runs[i].name);
            rc = sow_alloc_string(&r->runs[i].name, name.text);
        }
        sow_words_fini(&name);
        SOW_TRY(rc);
    }
    return SOW_OK;
}

/* ---- Which runs count ---- */

/* 0 is best. */
static int grade_of(const report_run *run)
{
    const char *verdict = report_run_verdict(run);
    return strcmp(verdict, "VALID") == 0 ? 0 : strcmp(verdict, "UNFINISHED") == 0 ? 1 : 2;
}

static bool has_seeds_of(const report_run *a, const report_run *b)
{
    return a->has_options && b->has_options && a->options.run.seed == b->options.run.seed &&
           a->options.task.seed == b->options.task.seed;
}

/* The last step that a run told of, -1: none. */
static int64_t last_step_of(const report_run *run)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    return metrics->n_rows == 0 ? -1 : metrics->steps[metrics->n_rows - 1];
}

/* Whether `a` counts rather than `b`: by verdict, then by how far it came. */
static bool is_better(const report_run *a, const report_run *b)
{
    return grade_of(a) != grade_of(b) ? grade_of(a) < grade_of(b) : last_step_of(a) > last_step_of(b);
}

/* Of two runs with the same seeds the better one counts, the first if they are alike: they are the same run twice, and
 * no two samples. */
static sow_code find_copies(report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        for (int64_t j = 0; j < i; j++) {
            report_run *a = &r->runs[j], *b = &r->runs[i];
            if (a->group != b->group || a->is_copy || b->is_copy || !has_seeds_of(a, b))
                continue;
            report_run *copy = is_better(b, a) ? a : b;
            copy->is_copy = true;
            SOW_TRY(report_warn(r, "%s and %s have the same configuration and seeds: only %s is counted", a->name,
                                b->name, copy == a ? b->name : a->name));
        }
    return SOW_OK;
}

int64_t report_next_used(const report *r, const report_group *group, int64_t run)
{
    for (int64_t i = run + 1; i < r->n_runs; i++)
        if (r->runs[i].is_counted && &r->groups[r->runs[i].group] == group)
            return i;
    return -1;
}

static bool is_evaluated_at(const report_run *run, int64_t step)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    int64_t row = report_frame_row(metrics, step);
    return row >= 0 && report_run_is_evaluated(run, row);
}

static int64_t find_end(const report *r, const report_group *group)
{
    int64_t first = report_next_used(r, group, -1);
    const report_frame *metrics = first < 0 ? NULL : &r->runs[first].frames[REPORT_METRICS];
    for (int64_t row = first < 0 ? -1 : r->runs[first].last_row; row >= 0; row--) {
        bool is_common = true;
        for (int64_t i = first; i >= 0 && is_common; i = report_next_used(r, group, i))
            is_common = is_evaluated_at(&r->runs[i], metrics->steps[row]);
        if (is_common)
            return metrics->steps[row];
    }
    return -1;
}

/* The numbers of a group are those of its VALID runs; only if it has none, of those at work; else of what there is. */
static void choose_runs(report *r, int64_t g)
{
    static const char *const notes[] = {"", "unfinished", "INVALID"};
    report_group *group = &r->groups[g];
    int best = 2;
    for (int64_t i = 0; i < r->n_runs; i++)
        if (r->runs[i].group == g && !r->runs[i].is_copy && grade_of(&r->runs[i]) < best)
            best = grade_of(&r->runs[i]);
    for (int64_t i = 0; i < r->n_runs; i++) {
        report_run *run = &r->runs[i];
        if (run->group != g)
            continue;
        run->is_counted = !run->is_copy && grade_of(run) == best;
        group->n++;
        group->n_used += run->is_counted;
    }
    group->note = notes[best];
    group->end_step = find_end(r, group);
}

/* ---- Warnings ---- */

/* The first run that says something else than the first of all, -1: none. */
static int64_t find_other(const report *r, const char *key)
{
    for (int64_t i = 1; i < r->n_runs; i++) {
        const char *a = report_run_fact(&r->runs[0], key), *b = report_run_fact(&r->runs[i], key);
        if (a[0] != '\0' && b[0] != '\0' && strcmp(a, b) != 0)
            return i;
    }
    return -1;
}

/* A prior is the mean over its own probes. */
static bool has_probes_of(const report_run *a, const report_run *b)
{
    for (int64_t i = 0; i < a->n_probes && a->n_probes == b->n_probes; i++)
        if (strcmp(a->probes[i], b->probes[i]) != 0)
            return false;
    return a->n_probes == b->n_probes;
}

static sow_code warn_of_probes(report *r)
{
    for (int64_t i = 1; i < r->n_runs; i++)
        if (r->runs[0].last_row >= 0 && r->runs[i].last_row >= 0 && !has_probes_of(&r->runs[0], &r->runs[i]))
            return report_warn(r, "%s and %s followed different prior tasks: their prior accuracies do not compare",
                               r->runs[0].name, r->runs[i].name);
    return SOW_OK;
}

/* ES counts prompts and completions; runs of GRPO that do not tell their prompts cannot be counted so. */
static sow_code warn_of_tokens(report *r)
{
    int64_t n = 0, first = 0;
    for (int64_t i = 0; i < r->n_runs; i++) {
        const report_frame *metrics = &r->runs[i].frames[REPORT_METRICS];
        bool has_all =
            report_frame_find(metrics, "prompt_tokens") != NULL || report_frame_find(metrics, "num_tokens") != NULL;
        if (report_frame_find(metrics, "rollout_tokens") == NULL || has_all)
            continue;
        first = n++ == 0 ? i : first;
    }
    return n == 0 ? SOW_OK
                  : report_warn(r,
                                "%lld runs (%s first) wrote the tokens of their completions only: these do not compare "
                                "with the tokens of other methods",
                                (long long)n, r->runs[first].name);
}

static sow_code warn_all(report *r)
{
    int64_t other = find_other(r, "model_digest");
    SOW_TRY(warn_of_probes(r));
    SOW_TRY(warn_of_tokens(r));
    if (other > 0)
        SOW_TRY(report_warn(r, "%s and %s began from different base models: their accuracies and norms do not compare",
                            r->runs[0].name, r->runs[other].name));
    for (int64_t i = 1; i < r->n_runs; i++) {
        double a = report_run_number(&r->runs[0], "numerics"), b = report_run_number(&r->runs[i], "numerics");
        if (isfinite(a) && isfinite(b) && a != b) {
            SOW_TRY(report_warn(r, "%s and %s were made by programs that compute different bits (numerics %g and %g)",
                                r->runs[0].name, r->runs[i].name, a, b));
            break;
        }
    }
    for (int64_t i = 0; i < r->n_runs; i++)
        if (r->runs[i].n_settings > 0 && r->runs[0].n_settings > 0 &&
            strcmp(r->runs[i].options.task.name, r->runs[0].options.task.name) != 0)
            return report_warn(r, "%s and %s have different target tasks: their target accuracies do not compare",
                               r->runs[0].name, r->runs[i].name);
    return SOW_OK;
}

sow_code report_make_groups(report *r)
{
    SOW_TRY(name_runs(r));
    for (int64_t i = 0; i < r->n_runs; i++) {
        int64_t g = 0;
        while (g < r->n_groups && !is_of_group(first_run(r, g), &r->runs[i]))
            g++;
        r->runs[i].group = g;
        if (g < r->n_groups)
            continue;
        SOW_TRY(SOW_GROW(&r->groups, &r->groups_capacity, g));
        bool is_walk =
            strcmp(r->runs[i].options.method, "es") == 0 && strcmp(r->runs[i].options.es.shaping, "random") == 0;
        r->groups[r->n_groups++] = (report_group){.first = i, .is_control = r->runs[i].has_options && is_walk};
    }
    name_groups(r);
    SOW_TRY(sort_groups(r));
    SOW_TRY(find_copies(r));
    for (int64_t g = 0; g < r->n_groups; g++)
        choose_runs(r, g);
    return warn_all(r);
}
