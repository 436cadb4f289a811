/* SPDX-License-Identifier: Apache-2.0 */
/* Root: what a run says of itself in its log when it begins, and of its time when it ends. */
#include "root_impl.h"

#include "sower/build.h"
#include "sower/clock.h"
#include "sower/log.h"

#include <math.h>
#include <string.h>

void sow_root_take_report(sow_root *root, int rank, const report_message *report)
{
    root->reports[rank] = *report;
    for (int phase = 0; phase < SOW_N_PHASES; phase++)
        root->spent[rank].phase_s[phase] += report->phase_s[phase];
}

/* A batch that is larger than the task is all of it; the number in the configuration stays what was asked for. */
static void warn_of_batch(const sow_run *run)
{
    const int64_t wanted = run->method->batch(run->options), batch = sow_run_batch(run);
    if (wanted > batch)
        sow_log(SOW_LOG_WARN, "%s: %lld is more than the task's %lld rows, a step takes all of them",
                run->method->batch_key, (long long)wanted, (long long)batch);
}

void sow_root_tell_start(const sow_root *root, const char *folder)
{
    const sow_run *run = root->run;
    const sow_options *o = run->options;
    sow_log(SOW_LOG_INFO, "%s: %s on %s, seed %lld, %lld %ss; sower %s (%s), %s", folder, o->method, o->task.name,
            (long long)o->run.seed, (long long)o->run.steps, run->method->word, sow_build_version(), sow_build_commit(),
            sow_world_library());
    sow_log(SOW_LOG_INFO, "%s: %lld weights as %s; ranks: %d, nodes: %d, threads a rank: %d; %s, kernels %s", folder,
            (long long)run->layout->n_parameters, sow_type_name(run->type), sow_world_size(run->world),
            sow_world_n_nodes(run->world), sow_la_threads(run->la), sow_la_cpu_name(), sow_la_kernels(run->la)->name);
    warn_of_batch(run);
}

phase_spread sow_phase_spread(const report_message *reports, int n_ranks, int64_t step, int phase)
{
    phase_spread out = {.min = (double)INFINITY};
    for (int rank = 0; rank < n_ranks; rank++) {
        const double s = reports[rank].phase_s[phase];
        if (step >= 0 && reports[rank].generation != step)
            continue;
        out.min = fmin(out.min, s);
        out.max = fmax(out.max, s);
        out.sum += s;
        out.n++;
    }
    return out;
}

/* As LAMMPS breaks down its time: of each phase the least, mean and most that a rank spent in it. */
void sow_root_tell_end(const sow_root *root)
{
    const int n_ranks = sow_world_size(root->run->world);
    const int64_t steps = root->status.step - root->first_step;
    double all = 0;
    for (int phase = SOW_PHASE_PERTURB; phase < SOW_N_PHASES; phase++)
        all += sow_phase_spread(root->spent, n_ranks, -1, phase).sum;
    sow_log(SOW_LOG_INFO, "%lld %ss and their evaluations in %.1f s", (long long)steps, root->run->method->word,
            sow_clock_now_s() - root->started_s);
    if (steps == 0 || !(all > 0))
        return;
    sow_log(SOW_LOG_INFO, "phase          min s     avg s     max s   share");
    for (int phase = SOW_PHASE_PERTURB; phase < SOW_N_PHASES; phase++) {
        const phase_spread s = sow_phase_spread(root->spent, n_ranks, -1, phase);
        if (s.sum > 0)
            sow_log(SOW_LOG_INFO, "%-10s %9.2f %9.2f %9.2f  %4.1f %%", sow_phase_name(phase), s.min, s.sum / s.n, s.max,
                    100 * s.sum / all);
    }
}
