/* SPDX-License-Identifier: Apache-2.0 */
/* blas.c: OpenBLAS: the backend `openblas`, the oracle of tests, the anchor of the bench.  Its bits depend on its
 * version, its core type and its threads, so nothing here promises any.
 *
 * The backend widens packed weights into a scratch block of K_BLOCK x N_BLOCK floats and multiplies with that; both are
 * small enough for a cache, and the block is taken once. */
#include "la_impl.h"

#include "sower/alloc.h"
#include "sower/la.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

enum { K_BLOCK = 512, N_BLOCK = 512, M_BLOCK = 1 << 20 };

struct sow_blas {
    float *block; /* owned [K_BLOCK][N_BLOCK] */
};

sow_code sow_blas_create(int threads, sow_blas **out)
{
    sow_blas *blas = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&blas, 1));
    SOW_TRY_OR(rc, SOW_ALLOC(&blas->block, K_BLOCK * N_BLOCK));
    openblas_set_num_threads(threads);
    *out = blas;
    blas = NULL;
done:
    sow_blas_destroy(&blas);
    return rc;
}

void sow_blas_destroy(sow_blas **blas)
{
    if (*blas != NULL)
        SOW_FREE(&(*blas)->block);
    SOW_FREE(blas);
}

static blasint narrow_size(int64_t n)
{
    SOW_ASSERT(n >= 0 && n <= INT_MAX);
    return (blasint)n;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* block[k][n] = weight (n0 + n, k0 + k), whole panels, in the order of outputs. */
static void widen_block(const sow_blas *blas, const sow_kernels *kernels, const sow_linear_args *a, int64_t n0,
                        int64_t n, int64_t k0, int64_t k)
{
    const int64_t bytes = (int64_t)sow_type_bytes(a->type);
    float line[SOW_PANEL];
    for (int64_t p = 0; p < n; p += SOW_PANEL) {
        const char *from = (const char *)a->w + ((n0 + p) * a->k_size + k0 * SOW_PANEL) * bytes;
        for (int64_t i = 0; i < k; i++, from += SOW_PANEL * bytes) {
            float *to = blas->block + i * n + p;
            kernels->widen(a->type, SOW_PANEL, from, line);
            for (int64_t j = 0; j < SOW_PANEL; j++)
                to[j] = line[sow_pack_slot(a->type, j)];
        }
    }
}

void sow_blas_linear(sow_blas *blas, const sow_kernels *kernels, const sow_linear_args *a)
{
    const blasint ldx = narrow_size(a->ldx), ldy = narrow_size(a->ldy);
    for (int64_t n0 = 0; n0 < a->n_size; n0 += N_BLOCK) {
        const int64_t n = least(N_BLOCK, a->n_size - n0);
        for (int64_t k0 = 0; k0 < a->k_size; k0 += K_BLOCK) {
            const int64_t k = least(K_BLOCK, a->k_size - k0);
            widen_block(blas, kernels, a, n0, n, k0, k);
            for (int64_t m0 = 0; m0 < a->m_size; m0 += M_BLOCK)
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, narrow_size(least(M_BLOCK, a->m_size - m0)),
                            narrow_size(n), narrow_size(k), 1.0f, a->x + m0 * a->ldx + k0, ldx, blas->block,
                            narrow_size(n), k0 == 0 ? 0.0f : 1.0f, a->y + m0 * a->ldy + n0, ldy);
        }
        for (int64_t m = 0; a->bias != NULL && m < a->m_size; m++)
            kernels->add(n, a->bias + n0, a->y + m * a->ldy + n0);
    }
}

void sow_blas_outer(const sow_outer_args *a)
{
    const blasint n = narrow_size(a->n_size), k = narrow_size(a->k_size), t = narrow_size(a->t_size);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, t, 1.0f, a->dy, narrow_size(a->ldy), a->x,
                narrow_size(a->ldx), 1.0f, a->dw, narrow_size(a->ldw));
}

void sow_la_blas_linear(int64_t m, int64_t n, int64_t k, const float *x, const float *w, float *y)
{
    const blasint rows = narrow_size(m), columns = narrow_size(n), inner = narrow_size(k);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, inner, 1.0f, x, inner, w, inner, 0.0f, y,
                columns);
}

/* ---- which kernels OpenBLAS chose ---- */

/* The vectors that a core type's single-precision kernels use, 128 where it is not listed. */
static const struct core {
    const char *name;
    int bits;
} cores[] = {
    {"Haswell", 256},        {"Zen", 256},         {"Excavator", 256}, {"SkylakeX", 512},   {"Cooperlake", 512},
    {"Sapphirerapids", 512}, {"Sandybridge", 256}, {"Bulldozer", 256}, {"Piledriver", 256}, {"Steamroller", 256}};

static int core_bits(const char *name)
{
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (strcmp(cores[i].name, name) == 0)
            return cores[i].bits;
    return 128;
}

/* OPENBLAS_CORETYPE is the site's word: where it is set, nothing is advised. */
static const char *find_remedy(const char *core)
{
    const char *best = sow_kernels_at(0)->name;
    if (getenv("OPENBLAS_CORETYPE") != NULL)
        return NULL;
    if (strncmp(best, "avx512", strlen("avx512")) == 0 && core_bits(core) < 512)
        return "set OPENBLAS_CORETYPE=SKYLAKEX (this CPU has AVX-512, the core type that OpenBLAS chose does not use "
               "it)";
    if (strcmp(best, "avx2") == 0 && core_bits(core) < 256)
        return "set OPENBLAS_CORETYPE=HASWELL (this CPU has AVX2, the core type that OpenBLAS chose does not use it)";
    return NULL;
}

const char *sow_la_blas_name(const char **remedy)
{
    static char name[128];
    const char *core = openblas_get_corename();
    if (name[0] == '\0') {
        char library[32] = "", version[32] = "";
        if (sscanf(openblas_get_config(), "%31s %31s", library, version) != 2)
            version[0] = '\0';
        (void)snprintf(name, sizeof name, "%s %s %s", library, version, core);
    }
    *remedy = find_remedy(core);
    return name;
}
