/* SPDX-License-Identifier: Apache-2.0 */
/* la.c: the kernels of one table, split over OpenMP threads.
 *
 * A linear layer is a grid of panels and rows, of which each thread computes a rectangle; how it is cut changes no
 * bits.  The first thread cuts its share into steps of a few milliseconds and ticks between them, so that a rank shows
 * life in a long prefill. */
#include "sower/la.h"

#include "la_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <stdlib.h>
#include <string.h>

#include <omp.h>

enum {
    MAX_THREADS = 4096,
    WORTH = 1 << 16,         /* multiply-adds below which a second thread costs more than it brings */
    STEP = 1 << 27,          /* multiply-adds between two ticks: about 3 ms */
    STEP_WEIGHTS = 1 << 21,  /* weights perturbed between two ticks: about 2 ms */
    STEP_ELEMENTS = 1 << 22, /* gradients added to sums between two ticks */
    LOAD_ROWS = 6,           /* reading a panel costs as much as computing so many rows */
    MIXED_PANELS = 64,       /* to round x for them costs a fiftieth of the products, but ... */
    MIXED_STEPS = 7,         /* ... without the instruction that may take long: so many times STEP at most */
    OUTER_ROWS = 256,        /* rows of dw between two ticks are a multiple: what outer_isa.c takes at a time */
};

struct sow_la {
    const sow_kernels *kernels;
    int threads;
    sow_blas *blas; /* owned; NULL: exact */
};

/* OMP_NUM_THREADS (its first number), else the cores this process is bound to. */
static int default_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    char *end = NULL;
    const long n = text == NULL ? 0 : strtol(text, &end, 10);
    if (n >= 1 && n <= MAX_THREADS && (*end == '\0' || *end == ','))
        return (int)n;
    return omp_get_num_procs();
}

sow_code sow_la_create(const char *backend, const char *kernel, int64_t threads, sow_la **out)
{
    sow_la *la = NULL;
    const sow_kernels *kernels = NULL;
    const bool is_exact = strcmp(backend, "exact") == 0;
    if (!is_exact && strcmp(backend, "openblas") != 0)
        return SOW_FAIL(SOW_ECONF, "la.backend: '%s' is not known, expected exact or openblas", backend);
    if (threads < 0 || threads > MAX_THREADS)
        return SOW_FAIL(SOW_ECONF, "run.threads: %lld is outside [0, %d]", (long long)threads, MAX_THREADS);
    SOW_TRY(sow_kernels_find(kernel, &kernels));

    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&la, 1));
    la->kernels = kernels;
    la->threads = threads > 0 ? (int)threads : default_threads();
    if (!is_exact)
        SOW_TRY_OR(rc, sow_blas_create(la->threads, &la->blas));
    omp_set_num_threads(la->threads);
    sow_kernels_set_rounding();
    *out = la;
    la = NULL;
done:
    sow_la_destroy(&la);
    return rc;
}

void sow_la_destroy(sow_la **la)
{
    if (*la != NULL)
        sow_blas_destroy(&(*la)->blas);
    SOW_FREE(la);
}

const sow_kernels *sow_la_kernels(const sow_la *la)
{
    return la->kernels;
}

int sow_la_threads(const sow_la *la)
{
    return la->threads;
}

bool sow_la_is_exact(const sow_la *la)
{
    return la->blas == NULL;
}

sow_code sow_la_check_type(sow_type type, bool is_exact)
{
    if (is_exact || type != SOW_BF16_MIXED)
        return SOW_OK;
    return SOW_FAIL(SOW_ECONF,
                    "model.dtype: '%s' is not possible with la.backend openblas, which multiplies in float32; "
                    "expected another dtype or la.backend exact",
                    sow_type_name(type));
}

/* Part `index` of n things shared out over `parts`: the first of them, and where the next part begins. */
typedef struct part {
    int64_t first, end;
} part;

static part part_of(int64_t n, int64_t parts, int64_t index)
{
    return (part){n * index / parts, n * (index + 1) / parts};
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* In how many parts to cut the rows (and `threads` / that the panels): the slowest thread's cost is least.  Every part
 * of the rows reads the weights again. */
static int64_t row_parts(int64_t threads, int64_t n_panels, int64_t m_size)
{
    int64_t best = 1, best_cost = INT64_MAX;
    for (int64_t parts = 1; parts <= threads && parts <= m_size; parts++) {
        const int64_t panel_parts = least(threads / parts, n_panels);
        const int64_t panels = (n_panels + panel_parts - 1) / panel_parts, rows = (m_size + parts - 1) / parts;
        const int64_t cost = panels * (rows + LOAD_ROWS);
        if (cost < best_cost)
            best = parts, best_cost = cost;
    }
    return best;
}

/* Panels and rows of a layer, by one thread, `step` panels at a time. */
static void run_panels(const sow_la *la, const sow_linear_args *whole, part panels, part rows, int64_t step, bool ticks)
{
    const int64_t panel_bytes = (int64_t)sow_la_packed_bytes(whole->type, SOW_PANEL, whole->k_size);
    for (int64_t p = panels.first; p < panels.end; p += step) {
        sow_linear_args some = *whole;
        some.n_size = least(step, panels.end - p) * SOW_PANEL;
        some.m_size = rows.end - rows.first;
        some.x += rows.first * whole->ldx;
        some.y += rows.first * whole->ldy + p * SOW_PANEL;
        some.w = (const char *)whole->w + p * panel_bytes;
        some.bias = whole->bias == NULL ? NULL : whole->bias + p * SOW_PANEL;
        la->kernels->linear(&some);
        if (ticks)
            sow_phase_tick();
    }
}

/* bf16-mixed rounds x again in every call, so there a step has many panels and few rows, else all rows. */
static void run_rectangle(const sow_la *la, const sow_linear_args *whole, part panels, part rows, bool ticks)
{
    const bool is_mixed = whole->type == SOW_BF16_MIXED;
    const int64_t n_rows = rows.end - rows.first, n_panels = panels.end - panels.first;
    const int64_t n_parts = is_mixed && ticks ? (n_rows + SOW_MIXED_ROWS - 1) / SOW_MIXED_ROWS : 1;
    const int64_t panel_work = SOW_PANEL * whole->k_size * ((n_rows - 1) / n_parts + 1);
    int64_t step = n_panels;
    if (ticks && panel_work > 0)
        step = (is_mixed ? least(MIXED_STEPS * STEP / panel_work, MIXED_PANELS) : 0) + STEP / panel_work + 1;
    for (int64_t i = 0; i < n_parts; i++) {
        const part some = part_of(n_rows, n_parts, i);
        run_panels(la, whole, panels, (part){rows.first + some.first, rows.first + some.end}, step, ticks);
    }
}

void sow_la_linear(sow_la *la, const sow_linear_args *args)
{
    const int64_t n_panels = args->n_size / SOW_PANEL, m_size = args->m_size;
    SOW_ASSERT(args->n_size % SOW_PANEL == 0);
    if (n_panels < 1 || m_size < 1)
        return;
    if (la->blas != NULL) {
        SOW_ASSERT(args->type != SOW_BF16_MIXED);
        sow_blas_linear(la->blas, la->kernels, args);
        return;
    }
    const double work = (double)m_size * (double)args->n_size * (double)args->k_size;
    if (la->threads == 1 || work < WORTH) {
        run_rectangle(la, args, (part){0, n_panels}, (part){0, m_size}, work > STEP);
        return;
    }
    const int64_t by_rows = row_parts(la->threads, n_panels, m_size), by_panels = la->threads / by_rows;
#pragma omp parallel for schedule(static, 1) num_threads(la->threads)
    for (int64_t i = 0; i < by_rows * by_panels; i++)
        run_rectangle(la, args, part_of(n_panels, by_panels, i % by_panels), part_of(m_size, by_rows, i / by_panels),
                      omp_get_thread_num() == 0 && work > STEP);
}

void sow_la_perturb(sow_la *la, const sow_perturb_args *args)
{
    const int64_t n_panels = sow_la_padded(args->n_size) / SOW_PANEL, weights = SOW_PANEL * args->k_size;
    const int64_t step = STEP_WEIGHTS / (weights > 0 ? weights : 1) + 1;
#pragma omp parallel for schedule(static, 1) num_threads(la->threads) if (n_panels * weights > WORTH)
    for (int64_t i = 0; i < la->threads; i++) {
        const part mine = part_of(n_panels, la->threads, i);
        for (int64_t p = mine.first; p < mine.end; p += step) {
            sow_perturb_args some = *args;
            some.first_panel = p;
            some.n_panels = least(step, mine.end - p);
            la->kernels->perturb(&some);
            if (i == 0)
                sow_phase_tick();
        }
    }
}

/* Columns (as panels) and rows of dw, by one thread. */
static void run_outer(const sow_la *la, const sow_outer_args *whole, part panels, part rows, bool ticks)
{
    const int64_t column = panels.first * SOW_PANEL, k_size = least(panels.end * SOW_PANEL, whole->k_size) - column;
    const int64_t row_work = k_size * whole->t_size;
    const int64_t step = ticks ? (STEP / row_work / OUTER_ROWS + 1) * OUTER_ROWS : rows.end - rows.first;
    for (int64_t n = rows.first; n < rows.end; n += step) {
        sow_outer_args some = *whole;
        some.n_size = least(step, rows.end - n);
        some.k_size = k_size;
        some.dy += n;
        some.x += column;
        some.dw += n * whole->ldw + column;
        la->kernels->outer(&some);
        if (ticks)
            sow_phase_tick();
    }
}

void sow_la_outer(sow_la *la, const sow_outer_args *args)
{
    const int64_t n_panels = sow_la_padded(args->k_size) / SOW_PANEL, n_size = args->n_size;
    if (n_panels < 1 || n_size < 1 || args->t_size < 1)
        return;
    if (la->blas != NULL) {
        SOW_ASSERT(args->ends == NULL);
        sow_blas_outer(args);
        return;
    }
    const double work = (double)args->t_size * (double)n_size * (double)args->k_size;
    if (la->threads == 1 || work < WORTH) {
        run_outer(la, args, (part){0, n_panels}, (part){0, n_size}, work > STEP);
        return;
    }
    const int64_t by_rows = row_parts(la->threads, n_panels, n_size);
    const int64_t by_panels = least(la->threads / by_rows, n_panels);
#pragma omp parallel for schedule(static, 1) num_threads(la->threads)
    for (int64_t i = 0; i < by_rows * by_panels; i++)
        run_outer(la, args, part_of(n_panels, by_panels, i % by_panels), part_of(n_size, by_rows, i / by_panels),
                  omp_get_thread_num() == 0 && work > STEP);
}

void sow_la_transpose(sow_la *la, const sow_transpose_args *args)
{
    const int64_t n_panels = sow_la_padded(args->k_size) / SOW_PANEL, weights = SOW_PANEL * args->n_size;
    const int64_t step = STEP_WEIGHTS / (weights > 0 ? weights : 1) + 1;
#pragma omp parallel for schedule(static, 1) num_threads(la->threads) if (n_panels * weights > WORTH)
    for (int64_t i = 0; i < la->threads; i++) {
        const part mine = part_of(n_panels, la->threads, i);
        for (int64_t p = mine.first; p < mine.end; p += step) {
            sow_transpose_args some = *args;
            some.first_panel = p;
            some.n_panels = least(step, mine.end - p);
            la->kernels->transpose(&some);
            if (i == 0)
                sow_phase_tick();
        }
    }
}

int sow_la_add_fixed(sow_la *la, int64_t n, const float *x, int64_t *sums)
{
    int wrong = 0;
#pragma omp parallel for schedule(static, 1) num_threads(la->threads) if (n > WORTH) reduction(| : wrong)
    for (int64_t i = 0; i < la->threads; i++) {
        const part mine = part_of(n, la->threads, i);
        for (int64_t first = mine.first; first < mine.end; first += STEP_ELEMENTS) {
            wrong |= la->kernels->add_fixed(least(STEP_ELEMENTS, mine.end - first), x + first, sums + first);
            if (i == 0)
                sow_phase_tick();
        }
    }
    return wrong;
}
