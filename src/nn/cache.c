/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of keys and values in pages of 16 positions (after vLLM's paged attention, Kwon et al. 2023, arXiv
 * 2309.06180).
 *
 *     page   layer 0: head 0: K [head_dim][16]  V [16][head_dim]    A page has 16 positions of all layers and KV
 *                     head 1: ...                                   heads.  A sequence is a list of pages; sequences
 *            layer 1: ...                                           with the same beginning list the same pages,
 *                                                                   counted in `uses`.
 *
 * K is transposed so that the scores of 16 positions are 16 lanes; V is not, so that a sum over positions has the
 * head dimension in its lanes (design: Numerics 4). */
#include "nn_impl.h"

#include "sower/alloc.h"

#include <string.h>

void sow_cache_init(sow_cache *cache, const sow_shape *shape)
{
    *cache = (sow_cache){.n_layers = shape->n_layers,
                         .n_kv_heads = shape->n_kv_heads,
                         .head_dim = shape->head_dim,
                         .page_floats = shape->n_layers * shape->n_kv_heads * 2 * SOW_PAGE * shape->head_dim};
}

void sow_cache_fini(sow_cache *cache)
{
    for (int64_t s = 0; s < cache->n_slabs; s++)
        SOW_FREE(&cache->slabs[s]);
    SOW_FREE(&cache->slabs);
    SOW_FREE(&cache->pages);
    SOW_FREE(&cache->uses);
    SOW_FREE(&cache->unused);
}

sow_code sow_cache_reserve(sow_cache *cache, int64_t n_pages)
{
    const int64_t old = cache->n_pages;
    if (n_pages <= old)
        return SOW_OK;
    if (n_pages > INT32_MAX)
        return SOW_FAIL(SOW_ENOMEM, "%lld pages of keys and values are more than can be numbered", (long long)n_pages);
    SOW_TRY(SOW_RESIZE(&cache->slabs, cache->n_slabs, cache->n_slabs + 1));
    SOW_TRY(SOW_RESIZE(&cache->pages, old, n_pages));
    SOW_TRY(SOW_RESIZE(&cache->uses, old, n_pages));
    SOW_TRY(SOW_RESIZE(&cache->unused, old, n_pages));
    float *slab = NULL;
    SOW_TRY(sow_alloc((void **)&slab, (size_t)(n_pages - old), (size_t)cache->page_floats * sizeof(float)));
    cache->slabs[cache->n_slabs++] = slab;
    for (int64_t p = old; p < n_pages; p++) {
        cache->pages[p] = slab + (p - old) * cache->page_floats;
        cache->unused[cache->n_free++] = (int32_t)p;
    }
    cache->n_pages = n_pages;
    return SOW_OK;
}

void sow_cache_clear(sow_cache *cache)
{
    cache->n_free = 0;
    for (int64_t p = cache->n_pages - 1; p >= 0; p--) { /* page 0 is taken first */
        cache->uses[p] = 0;
        cache->unused[cache->n_free++] = (int32_t)p;
    }
}

int32_t sow_cache_take(sow_cache *cache)
{
    SOW_ASSERT(cache->n_free > 0);
    const int32_t page = cache->unused[--cache->n_free];
    cache->uses[page] = 1;
    return page;
}

void sow_cache_share(sow_cache *cache, int32_t page)
{
    SOW_ASSERT(cache->uses[page] > 0);
    cache->uses[page]++;
}

void sow_cache_release(sow_cache *cache, int32_t page)
{
    SOW_ASSERT(cache->uses[page] > 0);
    if (--cache->uses[page] == 0)
        cache->unused[cache->n_free++] = page;
}

float *sow_cache_base(const sow_cache *cache, int32_t page, int64_t layer, int64_t head)
{
    return cache->pages[page] + (layer * cache->n_kv_heads + head) * 2 * SOW_PAGE * cache->head_dim;
}

void sow_cache_write(const sow_cache *cache, float *base, int64_t slot, const float *k, const float *v)
{
    const int64_t n = cache->head_dim;
    for (int64_t d = 0; d < n; d++)
        base[d * SOW_PAGE + slot] = k[d];
    memcpy(base + (SOW_PAGE + slot) * n, v, (size_t)n * sizeof(float));
}
