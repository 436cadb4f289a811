/* SPDX-License-Identifier: Apache-2.0 */
/* Root: the steps of a run, whatever the method: redo what the ledger holds and the checkpoint does not, then step,
 * measure, checkpoint, until the end or a limit. */
#include "sgd_impl.h"

#include "sower/clock.h"
#include "sower/log.h"
#include "sower/model.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const float *sow_root_theta(const sow_root *root, int64_t step)
{
    const sow_run *run = root->run;
    return sow_theta_buffer(run->theta, run->method->index(run, step));
}

static sow_code write_checkpoint(sow_root *root, int64_t step)
{
    sow_run *run = root->run;
    char path[SOW_TEXT];
    SOW_TRY(sow_root_scrub(root, run->method->index(run, step)));
    if (run->sgd != NULL)
        SOW_TRY(sow_sgd_save(run, root->folder, step));
    SOW_TRY(sow_folder_checkpoint(root->folder, step, path));
    SOW_TRY(sow_model_save_theta(path, run->layout, sow_root_theta(root, step), SOW_F32));
    sow_folder_prune_checkpoints(root->folder, step, run->options->run.checkpoints_keep);
    return SOW_OK;
}

static sow_code write_status(sow_root *root, sow_state state, const char *reason)
{
    root->status.state = state;
    (void)snprintf(root->status.reason, sizeof root->status.reason, "%s", reason);
    return sow_folder_write_status(root->folder, &root->status);
}

/* SOW_ESTOP if someone asked, or time is up. */
static sow_code look_at_limits(sow_root *root, int64_t generation, double longest_s)
{
    double elapsed = sow_clock_now_s() - root->started_s;
    const char *why = NULL;
    if (sow_world_signal(root->run->world) == SIGUSR1)
        why = "SIGUSR1";
    else if (root->limit_s > 0 && elapsed + longest_s > root->limit_s)
        why = "run.max_hours";
    if (why == NULL)
        return SOW_OK;
    SOW_TRY(write_checkpoint(root, generation));
    char reason[128];
    (void)snprintf(reason, sizeof reason, "%s after %s %lld: go on with --resume", why, root->run->method->word,
                   (long long)generation);
    SOW_TRY(write_status(root, SOW_STATE_RESUBMIT, reason));
    sow_root_tell_end(root);
    return SOW_FAIL(SOW_ESTOP, "%s", reason);
}

static sow_code finish(sow_root *root, int64_t steps)
{
    sow_run *run = root->run;
    char folder[SOW_TEXT], checkpoint[SOW_TEXT];
    SOW_TRY(sow_folder_checkpoint(root->folder, steps, checkpoint));
    if (!sow_file_exists(checkpoint))
        SOW_TRY(write_checkpoint(root, steps));
    SOW_TRY(sow_folder_file(root->folder, "final", folder));
    if (!sow_file_exists(folder))
        SOW_TRY(sow_model_save(folder, run->layout, sow_root_theta(root, steps), SOW_F32, run->blocks.tokenizer,
                               run->blocks.tokenizer_bytes, run->chat_template));
    SOW_TRY(sow_folder_judge(root->folder, run->options, &root->status));
    if (strcmp(root->status.verdict, "VALID") != 0)
        sow_log(SOW_LOG_WARN, "the run is %s: %s", root->status.verdict, root->status.verdict_reasons);
    return write_status(root, SOW_STATE_DONE, "");
}

void sow_root_count(sow_root *root, int64_t step, int64_t tokens)
{
    sow_status *s = &root->status;
    if (step <= s->step)
        return;
    bool is_known = s->num_tokens >= 0 && tokens >= 0 && step == s->step + 1;
    s->num_tokens = is_known ? s->num_tokens + tokens : -1;
    s->step = step;
}

static sow_code make_step(sow_root *root, int64_t step)
{
    const double start = sow_clock_now_s();
    const sow_traffic then = sow_world_traffic(root->run->world);
    SOW_TRY(root->run->method->step(root, step));
    const sow_traffic now = sow_world_traffic(root->run->world);
    root->now.messages = now.messages_sent + now.messages_received - then.messages_sent - then.messages_received;
    root->now.bytes = now.bytes_sent + now.bytes_received - then.bytes_sent - then.bytes_received;
    root->now.step_s = sow_clock_now_s() - start;
    return SOW_OK;
}

static sow_code measure(sow_root *root, int64_t step, bool has_step)
{
    sow_run_measure(root->run, true);
    sow_code rc = sow_root_measure(root, step, has_step);
    sow_run_measure(root->run, false);
    return rc;
}

sow_code sow_root_lead(sow_root *root, const sow_ledger *ledger, int64_t loaded, int64_t measured)
{
    const sow_options *o = root->run->options;
    int64_t done = ledger == NULL ? 0 : ledger->n;
    double longest_s = 0;
    sow_root_install_tick(root);
    SOW_TRY(write_status(root, SOW_STATE_RUNNING, ""));
    for (int64_t g = loaded + 1; g <= done; g++)
        SOW_TRY(root->run->method->redo(root, ledger, g));
    sow_root_count(root, done, -1);
    root->first_step = done;
    root->first_s = sow_clock_now_s();
    if (measured < done || done == 0)
        SOW_TRY(measure(root, done, false));
    for (int64_t g = done + 1; g <= o->run.steps; g++) {
        double start = sow_clock_now_s();
        SOW_TRY(make_step(root, g));
        SOW_TRY(write_status(root, SOW_STATE_RUNNING, "")); /* a stop while it is measured loses no count of tokens */
        SOW_TRY(measure(root, g, true));
        if (g < o->run.steps && o->run.checkpoint_every > 0 && g % o->run.checkpoint_every == 0)
            SOW_TRY(write_checkpoint(root, g));
        longest_s = fmax(longest_s, sow_clock_now_s() - start);
        if (g < o->run.steps)
            SOW_TRY(look_at_limits(root, g, longest_s));
    }
    sow_log_progress(0, "%s", "");
    SOW_TRY(finish(root, o->run.steps));
    sow_root_tell_end(root);
    return SOW_OK;
}
