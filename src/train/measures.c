/* SPDX-License-Identifier: Apache-2.0 */
/* What root measures alone, from time to time, while the others wait: KL to the base and spectra of the update.
 *
 * KL needs a second replica, of the base, for as long as it takes, and the base's continuations, which are made once
 * and kept.  Its time is that of two generations and four passes over the rows. */
#include "root_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/kl.h"
#include "sower/spectrum.h"

/* One job's object, of the rows it has. */
static sow_code measure_job(sow_root *root, sow_line *line, const char *key, int job, sow_sequences *fixed)
{
    sow_evaluator *evaluator = root->run->evaluator;
    sow_task *task = sow_evaluator_task(evaluator, job);
    int64_t rows = root->run->options->measure.kl_rows, all = sow_task_rows(task);
    sow_kl kl;
    SOW_TRY(sow_evaluator_kl(evaluator, job, rows < all ? rows : all, fixed, &kl));
    sow_kl_put(line, key, sow_task_kind_of(task)->name, &kl);
    return SOW_OK;
}

static sow_code measure_jobs(sow_root *root, sow_line *line)
{
    sow_run *run = root->run;
    if (run->held_out_job >= 0)
        SOW_TRY(measure_job(root, line, "eval", run->held_out_job, &root->fixed[0]));
    sow_line_begin_array(line, "probes");
    for (int64_t i = 0; i < run->options->n_probes; i++)
        SOW_TRY(measure_job(root, line, NULL, run->probe_jobs[i], &root->fixed[i + 1]));
    sow_line_end_array(line);
    return SOW_OK;
}

static sow_code write_kl(sow_root *root, int64_t step)
{
    sow_run *run = root->run;
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    double start = sow_clock_now_s();
    bool has_base = sow_evaluator_has_base(run->evaluator);
    sow_phase_enter(SOW_PHASE_MEASURE);
    if (root->fixed == NULL)
        SOW_TRY(SOW_ALLOC(&root->fixed, run->options->n_probes + 1));
    SOW_TRY(sow_run_center(run, step));
    SOW_TRY_OR(rc, sow_line_create(&line));
    if (!has_base)
        SOW_TRY_OR(rc, sow_evaluator_hold_base(run->evaluator, sow_theta_base(run->theta)));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    SOW_TRY_OR(rc, measure_jobs(root, line));
    sow_line_real(line, "seconds", sow_clock_now_s() - start);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_folder_append(root->folder, SOW_LINES_KL, line));
done:
    if (!has_base)
        sow_evaluator_drop_base(run->evaluator);
    sow_line_destroy(&line);
    return rc;
}

static sow_code write_spectra(sow_root *root, int64_t step)
{
    sow_run *run = root->run;
    const sow_layout *layout = run->layout;
    sow_spectrum *spectra = NULL;
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    double start = sow_clock_now_s();
    SOW_TRY(SOW_ALLOC(&spectra, layout->n_tensors));
    SOW_TRY_OR(rc, sow_line_create(&line));
    sow_phase_enter(SOW_PHASE_MEASURE);
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        sow_phase_tick(); /* LAPACK knows no progress: root is silent for as long as one matrix takes */
        if (sow_spectrum_has(&layout->tensors[i]))
            SOW_TRY_OR(rc, sow_spectrum_measure(&layout->tensors[i], sow_theta_base(run->theta),
                                                sow_root_theta(root, step), &spectra[i]));
    }
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    sow_spectrum_put(line, layout, spectra);
    sow_line_real(line, "seconds", sow_clock_now_s() - start);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_folder_append(root->folder, SOW_LINES_SPECTRA, line));
done:
    sow_line_destroy(&line);
    SOW_FREE(&spectra);
    return rc;
}

bool sow_drift_is_due(const sow_options *o, int64_t step)
{
    return step > 0 && sow_eval_is_due(o->measure.drift_every, step, o->run.steps);
}

bool sow_kl_is_due(const sow_options *o, int64_t step)
{
    return step > 0 && o->measure.kl_rows > 0 && sow_eval_is_due(o->measure.kl_every, step, o->run.steps);
}

bool sow_spectra_are_due(const sow_options *o, int64_t step)
{
    return step > 0 && o->measure.spectra && sow_eval_is_due(o->measure.spectra_every, step, o->run.steps);
}

sow_code sow_root_measure_more(sow_root *root, int64_t step)
{
    if (sow_kl_is_due(root->run->options, step))
        SOW_TRY(write_kl(root, step));
    if (sow_spectra_are_due(root->run->options, step))
        SOW_TRY(write_spectra(root, step));
    return SOW_OK;
}

void sow_root_measures_fini(sow_root *root)
{
    for (int64_t i = 0; root->fixed != NULL && i <= root->run->options->n_probes; i++)
        sow_sequences_fini(&root->fixed[i]);
    SOW_FREE(&root->fixed);
    sow_items_destroy(&root->items);
}

int64_t sow_measure_bytes(const sow_options *o, const sow_layout *layout, sow_type type, int64_t tokens_per_row)
{
    int64_t kl = 0, spectra = 0;
    if (o->measure.kl_rows > 0) {
        int64_t logits = o->measure.kl_rows * tokens_per_row * layout->shape.vocab_size * (int64_t)sizeof(float);
        kl = 2 * (logits < SOW_KL_ROOM_BYTES ? logits : SOW_KL_ROOM_BYTES);
        kl += o->es.kl_beta > 0 ? 0 : (int64_t)sow_replica_bytes(layout, type);
    }
    for (int64_t i = 0; o->measure.spectra && i < layout->n_tensors; i++) {
        int64_t bytes = 12 * layout->tensors[i].rows * layout->tensors[i].cols; /* a copy in float32, one in float64 */
        spectra = bytes > spectra && sow_spectrum_has(&layout->tensors[i]) ? bytes : spectra;
    }
    return kl > spectra ? kl : spectra;
}
