/* SPDX-License-Identifier: Apache-2.0 */
/* Which weights ES moves: the tensors of es.tensors, and of them what es.mask leaves.  The mask lies once per node, one
 * bit a weight; every node makes it from the base. */
#include "train_impl.h"

#include "sower/alloc.h"
#include "sower/mask.h"

#include <string.h>

static int64_t size_of(const sow_tensor *tensor)
{
    return tensor->rows * tensor->cols;
}

static int64_t count_words(const sow_layout *layout)
{
    return layout->n_elements / 32 + 1; /* words are read in pairs */
}

size_t sow_run_mask_bytes(const sow_options *o, const sow_layout *layout)
{
    return strcmp(o->es.mask, "none") == 0 ? 0 : (size_t)count_words(layout) * sizeof(uint32_t);
}

static sow_code select_tensors(sow_run *run)
{
    const sow_options *o = run->options;
    SOW_TRY(SOW_ALLOC(&run->is_selected, run->layout->n_tensors));
    for (int64_t i = 0; i < run->layout->n_tensors; i++) {
        run->is_selected[i] = sow_noise_selects(o->es.tensors, run->layout->tensors[i].name);
        run->n_moving += run->is_selected[i] ? size_of(&run->layout->tensors[i]) : 0;
    }
    if (run->n_moving == 0)
        return SOW_FAIL(SOW_ECONF, "es.tensors: '%s' selects no tensor, expected patterns like * or *.mlp.*,!*norm*",
                        o->es.tensors);
    return SOW_OK;
}

/* Collective.  Zeroed words that the ranks of a node share. */
static sow_code open_mask(sow_run *run)
{
    size_t bytes = sow_run_mask_bytes(run->options, run->layout);
    if (run->world == NULL)
        return SOW_ALLOC(&run->mask_alone, (int64_t)(bytes / sizeof *run->mask_alone));
    SOW_TRY(sow_window_create(run->world, bytes, "the mask", &run->mask_window));
    return SOW_OK;
}

static void fill_mask(const sow_run *run, uint32_t *words)
{
    const sow_options *o = run->options;
    const sow_mask *mask = sow_mask_find(o->es.mask);
    const float *base = sow_theta_base(run->theta);
    SOW_ASSERT(mask != NULL); /* one of the choices of es.mask */
#pragma omp parallel for schedule(dynamic) num_threads(sow_la_threads(run->la))
    for (int64_t i = 0; i < run->layout->n_tensors; i++) {
        const sow_tensor *tensor = &run->layout->tensors[i];
        const sow_mask_args args = {.density = o->es.mask_density,
                                    .seed = (uint32_t)o->run.seed,
                                    .tensor = (uint32_t)i,
                                    .n = size_of(tensor),
                                    .base = base + tensor->offset};
        if (run->is_selected[i])
            (void)mask->fill(&args, words + tensor->offset / 32);
    }
}

static int64_t count_bits(const uint32_t *words, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += __builtin_popcount(words[i]);
    return sum;
}

sow_code sow_run_select(sow_run *run)
{
    const sow_options *o = run->options;
    sow_world *world = run->world;
    sow_code rc = select_tensors(run);
    if (world != NULL)
        rc = sow_world_agree(world, rc);
    if (rc != SOW_OK || strcmp(o->es.mask, "none") == 0)
        return rc;
    SOW_TRY(open_mask(run));
    uint32_t *words = world == NULL ? run->mask_alone : sow_window_data(run->mask_window);
    if (sow_run_leads(run))
        fill_mask(run, words);
    if (world != NULL)
        SOW_TRY(sow_world_barrier(world));
    int64_t n_chosen = run->n_moving;
    run->n_moving = count_bits(words, count_words(run->layout));
    run->mask = words;
    if (run->n_moving == 0)
        return SOW_FAIL(SOW_ECONF, "es.mask_density: %g leaves none of %lld weights to move, expected a larger share",
                        o->es.mask_density, (long long)n_chosen);
    return SOW_OK;
}
