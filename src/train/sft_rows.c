/* SPDX-License-Identifier: Apache-2.0 */
#include "sft_impl.h"

#include "sower/alloc.h"
#include "sower/philox.h"
#include "sower/task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIX_ROWS = 1000000000 }; /* of each portion: a row is hardly drawn twice */
enum { OF_EPOCH = 1, OF_MIX = 2 /* whose random numbers */ };

/* ---- the mix ---- */

static void trim(const char **begin, const char **end)
{
    while (*begin < *end && **begin == ' ')
        (*begin)++;
    while (*end > *begin && (*end)[-1] == ' ')
        (*end)--;
}

/* A piece without the blanks around it; false: it is empty, or too long. */
static bool take(const char *begin, const char *end, char *out, size_t cap)
{
    trim(&begin, &end);
    if (begin == end || (size_t)(end - begin) >= cap)
        return false;
    (void)snprintf(out, cap, "%.*s", (int)(end - begin), begin);
    return true;
}

/* "countdown/short=1.3" */
static bool parse_portion(const char *begin, const char *end, sow_portion *out)
{
    char weight[96];
    char *rest = NULL;
    size_t n = (size_t)(end - begin);
    const char *equals = memchr(begin, '=', n);
    const char *slash = equals == NULL ? NULL : memchr(begin, '/', (size_t)(equals - begin));
    *out = (sow_portion){0};
    bool is_whole = equals != NULL && take(begin, slash == NULL ? equals : slash, out->task, sizeof out->task) &&
                    (slash == NULL || take(slash + 1, equals, out->form, sizeof out->form)) &&
                    take(equals + 1, end, weight, sizeof weight);
    if (!is_whole)
        return false;
    out->weight = strtod(weight, &rest);
    return rest != weight && *rest == '\0' && isfinite(out->weight) && out->weight > 0;
}

bool sow_mix_parse(const char *text, sow_mix *out)
{
    out->n = 0;
    for (const char *at = text; at != NULL && *text != '\0';) {
        const char *comma = strchr(at, ','), *end = comma == NULL ? at + strlen(at) : comma;
        if (out->n == SOW_MAX_MIX || !parse_portion(at, end, &out->portions[out->n]))
            return false;
        out->n++;
        at = comma == NULL ? NULL : comma + 1;
    }
    return true;
}

sow_code sow_mix_check(const sow_conf *conf)
{
    sow_mix mix;
    if (!sow_mix_parse(sow_conf_options(conf)->sft.mix, &mix))
        return sow_conf_reject(
            conf, "sft.mix", "at most 32 of TASK=WEIGHT or TASK/FORM=WEIGHT, by commas, with weights above 0", NULL, 0);
    for (int64_t i = 0; i < mix.n; i++) {
        const char *form = mix.portions[i].form;
        const sow_task_kind *kind = sow_task_find(mix.portions[i].task);
        bool is_form = form[0] == '\0' || strcmp(form, "short") == 0 || strcmp(form, "paper") == 0;
        if (kind == NULL || kind->needs_file || !is_form)
            return sow_conf_reject(conf, "sft.mix", "tasks with generated rows, forms short or paper", NULL, 0);
        if (form[0] != '\0' && !kind->has_forms)
            return sow_conf_reject(conf, "sft.mix", "a form only behind tasks that have forms, as countdown/short",
                                   NULL, 0);
    }
    return SOW_OK;
}

void sow_mix_task(const sow_portion *portion, const sow_task_options *task, sow_task_options *out)
{
    *out = *task;
    out->file[0] = '\0';
    out->rows = MIX_ROWS;
    out->offset = 0;
    (void)snprintf(out->name, sizeof out->name, "%s", portion->task);
    if (portion->form[0] != '\0')
        (void)snprintf(out->form, sizeof out->form, "%s", portion->form);
    (void)snprintf(out->split, sizeof out->split, "train");
}

void sow_mix_cut(sow_mix *mix)
{
    double sum = 0, below = 0;
    for (int64_t i = 0; i < mix->n; i++)
        sum += mix->portions[i].weight;
    for (int64_t i = 0; i < mix->n; i++) {
        below += mix->portions[i].weight;
        mix->portions[i].end = (uint32_t)llrint(fmin(below / sum * 0x1p32, 0x1p32 - 1));
    }
}

int64_t sow_mix_draw(const sow_mix *mix, uint32_t seed, int64_t step, int64_t i, int64_t *row)
{
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_DATA, seed, (uint32_t)step, OF_MIX, (uint32_t)i));
    uint32_t draw = sow_random_next(&random);
    int64_t k = 0;
    while (k < mix->n - 1 && draw >= mix->portions[k].end)
        k++;
    *row = sow_random_below(&random, MIX_ROWS);
    return k;
}

/* ---- epochs ---- */

static sow_code shuffle(sow_epochs *e, uint32_t seed, int64_t n, int64_t epoch)
{
    sow_random random;
    if (e->order != NULL && e->epoch == epoch)
        return SOW_OK;
    if (e->order == NULL)
        SOW_TRY(SOW_ALLOC(&e->order, n));
    e->n = n;
    for (int64_t i = 0; i < n; i++)
        e->order[i] = i;
    sow_random_init(&random, sow_place_of(SOW_STREAM_DATA, seed, (uint32_t)epoch, OF_EPOCH, 0));
    sow_random_shuffle(&random, e->order, n, sizeof *e->order);
    e->epoch = epoch;
    return SOW_OK;
}

sow_code sow_epochs_row(sow_epochs *e, uint32_t seed, int64_t n, int64_t at, int64_t *row)
{
    SOW_ASSERT(e->order == NULL || e->n == n);
    SOW_TRY(shuffle(e, seed, n, at / n));
    *row = e->order[at % n];
    return SOW_OK;
}

void sow_epochs_fini(sow_epochs *e)
{
    SOW_FREE(&e->order);
}
