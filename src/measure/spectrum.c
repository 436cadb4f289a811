/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/spectrum.h"

#include "sower/alloc.h"
#include "sower/json.h"
#include "sower/la.h"

#include <math.h>
#include <string.h>

static const double rank_tolerance = 1e-5;

/* Share of the squares in the first `count` values. */
static double energy(const double *values, int64_t count, double all)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return all > 0 ? sum / all : 0;
}

sow_spectrum sow_spectrum_of(int64_t rows, int64_t cols, const double *values)
{
    sow_spectrum s = {.rows = rows, .cols = cols, .n = rows < cols ? rows : cols};
    double squares = 0, largest = values[0];
    int64_t rank = 0;
    for (int64_t i = 0; i < s.n; i++) {
        squares += values[i] * values[i];
        rank += values[i] > rank_tolerance * largest;
    }
    for (int64_t i = 0; i < s.n && i < SOW_SPECTRUM_TOP; i++)
        s.top[i] = values[i];
    s.norm = sqrt(squares);
    s.stable_rank = largest > 0 ? squares / (largest * largest) : 0;
    s.energy_1 = energy(values, (s.n + 99) / 100, squares);
    s.energy_10 = energy(values, (s.n + 9) / 10, squares);
    s.rank = (double)rank / (double)s.n;
    return s;
}

bool sow_spectrum_has(const sow_tensor *tensor)
{
    return tensor->rows > 1 && tensor->cols > 1;
}

sow_code sow_spectrum_measure(const sow_tensor *tensor, const float *base, const float *theta, sow_spectrum *out)
{
    int64_t n = tensor->rows * tensor->cols, least = tensor->rows < tensor->cols ? tensor->rows : tensor->cols;
    float *delta = NULL;
    double *values = NULL;
    sow_code rc = SOW_OK;
    if (!sow_spectrum_has(tensor))
        return SOW_FAIL(SOW_EARG, "%s: is no matrix", tensor->name);
    SOW_TRY_OR(rc, SOW_ALLOC(&delta, n));
    SOW_TRY_OR(rc, SOW_ALLOC(&values, least));
    for (int64_t i = 0; i < n; i++)
        delta[i] = theta[tensor->offset + i] - base[tensor->offset + i];
    SOW_TRY_OR(rc, sow_la_singular_values(tensor->rows, tensor->cols, delta, values));
    *out = sow_spectrum_of(tensor->rows, tensor->cols, values);
done:
    SOW_FREE(&delta);
    SOW_FREE(&values);
    return rc;
}

static void put_shares(sow_line *line, const sow_spectrum *s)
{
    sow_line_real(line, "norm", s->norm);
    sow_line_real(line, "stable_rank", s->stable_rank);
    sow_line_real(line, "energy_1", s->energy_1);
    sow_line_real(line, "energy_10", s->energy_10);
    sow_line_real(line, "rank", s->rank);
}

static void put_tensor(sow_line *line, const char *name, const sow_spectrum *s)
{
    sow_line_begin_object(line, name);
    sow_line_int(line, "rows", s->rows);
    sow_line_int(line, "cols", s->cols);
    sow_line_begin_array(line, "top");
    for (int64_t i = 0; i < s->n && i < SOW_SPECTRUM_TOP; i++)
        sow_line_real(line, NULL, s->top[i]);
    sow_line_end_array(line);
    put_shares(line, s);
    sow_line_end_object(line);
}

static const char *group_of(const sow_layout *layout, int64_t i)
{
    return sow_tensor_group(layout->tensors[i].kind);
}

bool sow_spectrum_of_kind(const sow_layout *layout, const sow_spectrum *spectra, int64_t first, sow_spectrum *out)
{
    sow_spectrum sum = {0};
    if (!sow_spectrum_has(&layout->tensors[first]))
        return false;
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        if (!sow_spectrum_has(&layout->tensors[i]) || strcmp(group_of(layout, i), group_of(layout, first)) != 0)
            continue;
        if (i < first)
            return false;
        sum.n++;
        sum.norm = sqrt(sum.norm * sum.norm + spectra[i].norm * spectra[i].norm);
        sum.stable_rank += spectra[i].stable_rank;
        sum.energy_1 += spectra[i].energy_1;
        sum.energy_10 += spectra[i].energy_10;
        sum.rank += spectra[i].rank;
        for (int k = 0; k < SOW_SPECTRUM_TOP; k++)
            sum.top[k] += spectra[i].norm > 0 ? spectra[i].top[k] / spectra[i].norm : 0;
    }
    double n = (double)sum.n;
    *out = (sow_spectrum){.n = sum.n,
                          .norm = sum.norm,
                          .stable_rank = sum.stable_rank / n,
                          .energy_1 = sum.energy_1 / n,
                          .energy_10 = sum.energy_10 / n,
                          .rank = sum.rank / n};
    for (int k = 0; k < SOW_SPECTRUM_TOP; k++)
        out->top[k] = sum.top[k] / n;
    return true;
}

void sow_spectrum_put(sow_line *line, const sow_layout *layout, const sow_spectrum *spectra)
{
    sow_spectrum kind;
    sow_line_begin_object(line, "kinds");
    for (int64_t i = 0; i < layout->n_tensors; i++)
        if (sow_spectrum_of_kind(layout, spectra, i, &kind)) {
            sow_line_begin_object(line, group_of(layout, i));
            sow_line_begin_array(line, "top_share");
            for (int k = 0; k < SOW_SPECTRUM_TOP; k++)
                sow_line_real(line, NULL, kind.top[k]);
            sow_line_end_array(line);
            put_shares(line, &kind);
            sow_line_end_object(line);
        }
    sow_line_end_object(line);
    sow_line_begin_object(line, "tensors");
    for (int64_t i = 0; i < layout->n_tensors; i++)
        if (sow_spectrum_has(&layout->tensors[i]))
            put_tensor(line, layout->tensors[i].name, &spectra[i]);
    sow_line_end_object(line);
}
