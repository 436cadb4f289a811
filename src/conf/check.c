/* SPDX-License-Identifier: Apache-2.0 */
/* What no single row of the table can check: that keys fit together, and lists inside a text. */
#include "conf_impl.h"

#include <string.h>

enum { SMALLEST_BLOCK = 16384 };

/* The place of `key` if it was given, else of the key that makes its value wrong. */
static conf_mark mark_of(const sow_conf *conf, const char *key, const char *because)
{
    return sow_conf_mark_near(conf, sow_conf_is_given(conf, key) ? key : because);
}

#define MISFIT(conf, key, because, ...) CONF_FAIL((conf), mark_of((conf), (key), (because)), (key), __VA_ARGS__)

static sow_code check_es(const sow_conf *conf)
{
    const sow_options *o = &conf->options;
    char number[SOW_TEXT];
    if (o->es.mirrored && o->es.population % 2 != 0)
        return MISFIT(conf, "es.population", "es.mirrored",
                      "%lld is odd, expected an even number since es.mirrored is true", (long long)o->es.population);
    if (o->es.update_block % SMALLEST_BLOCK != 0)
        return MISFIT(conf, "es.update_block", "es.update_block", "%lld is not a multiple, expected a multiple of %d",
                      (long long)o->es.update_block, SMALLEST_BLOCK);
    if (strcmp(o->es.mask, "none") != 0 && o->es.mask_density <= 0)
        return MISFIT(conf, "es.mask_density", "es.mask",
                      "%s moves no weight, expected a share above 0 since es.mask is %s",
                      sow_conf_format_real(o->es.mask_density, number), o->es.mask);
    bool is_anchored = strcmp(o->es.anchor, "none") != 0;
    if (is_anchored && o->es.anchor_lambda <= 0)
        return MISFIT(conf, "es.anchor_lambda", "es.anchor",
                      "%s is no decay, expected a number above 0 since es.anchor is %s",
                      sow_conf_format_real(o->es.anchor_lambda, number), o->es.anchor);
    /* (1 - alpha lambda) delta must shrink delta and keep its sign. */
    if (strcmp(o->es.anchor, "l2") == 0 && o->es.alpha * o->es.anchor_lambda >= 1)
        return MISFIT(conf, "es.anchor_lambda", "es.anchor",
                      "%s is too large, expected es.alpha * es.anchor_lambda below 1 since es.anchor is l2",
                      sow_conf_format_real(o->es.anchor_lambda, number));
    return SOW_OK;
}

/* The key of the method's learning rate, and its value: the largest of the run, schedules only lower it.  NULL: the
 * method has no optimizer. */
static const char *rate_of(const sow_options *o, double *rate)
{
    bool is_grpo = strcmp(o->method, "grpo") == 0;
    *rate = is_grpo ? o->grpo.learning_rate : o->sft.learning_rate;
    return is_grpo ? "grpo.learning_rate" : strcmp(o->method, "sft") == 0 ? "sft.learning_rate" : NULL;
}

/* What es has of its own, of the method's learning rate. */
static sow_code check_adamw(const sow_conf *conf)
{
    const sow_options *o = &conf->options;
    char number[SOW_TEXT];
    double rate = 0;
    const char *key = rate_of(o, &rate);
    if (strcmp(o->adamw.anchor, "none") != 0 && o->adamw.anchor_lambda <= 0)
        return MISFIT(conf, "adamw.anchor_lambda", "adamw.anchor",
                      "%s is no decay, expected a number above 0 since adamw.anchor is %s",
                      sow_conf_format_real(o->adamw.anchor_lambda, number), o->adamw.anchor);
    if (key != NULL && strcmp(o->adamw.anchor, "l2") == 0 && rate * o->adamw.anchor_lambda >= 1)
        return MISFIT(conf, "adamw.anchor_lambda", "adamw.anchor",
                      "%s is too large, expected %s * adamw.anchor_lambda below 1 since adamw.anchor is l2",
                      sow_conf_format_real(o->adamw.anchor_lambda, number), key);
    /* (1 - rate * decay) theta, likewise. */
    if (key != NULL && rate * o->adamw.weight_decay >= 1)
        return MISFIT(conf, "adamw.weight_decay", key, "%s is too large, expected %s * adamw.weight_decay below 1",
                      sow_conf_format_real(o->adamw.weight_decay, number), key);
    return SOW_OK;
}

/* prefix: "task" or "probes[2]". */
static sow_code check_task(const sow_conf *conf, const char *prefix, const sow_task_options *task)
{
    char low[KEY_BYTES], high[KEY_BYTES], text[KEY_BYTES], shown[SHOW_BYTES];
    (void)snprintf(low, sizeof low, "%s.numbers_min", prefix);
    (void)snprintf(high, sizeof high, "%s.numbers_max", prefix);
    (void)snprintf(text, sizeof text, "%s.template", prefix);
    if (task->numbers_min > task->numbers_max)
        return MISFIT(conf, low, high, "%lld is too large, expected at most %lld, the value of numbers_max",
                      (long long)task->numbers_min, (long long)task->numbers_max);
    if (task->template[0] != '\0' && strstr(task->template, "{prompt}") == NULL)
        return MISFIT(conf, text, text, "%s is without a place for the prompt, expected {prompt} in it",
                      sow_conf_show(task->template, strlen(task->template), shown));
    return SOW_OK;
}

/* "1e-6,1e-5": numbers above or equal 0. */
static sow_code check_tau(const sow_conf *conf)
{
    char item[SOW_TEXT], shown[SHOW_BYTES];
    const char *at = conf->options.measure.tau;
    while (*at != '\0') {
        at += strspn(at, " ");
        size_t n = strcspn(at, ",");
        double value = -1;
        (void)snprintf(item, sizeof item, "%.*s", (int)n, at);
        if (!sow_words_to_real(item, &value) || value < 0)
            return MISFIT(conf, "measure.tau", "measure.tau",
                          "%s is not a threshold, expected numbers from 0 on, separated by commas",
                          sow_conf_show(item, strlen(item), shown));
        at += n + (at[n] == ',');
    }
    return SOW_OK;
}

sow_code sow_conf_check(const sow_conf *conf)
{
    char prefix[KEY_BYTES];
    SOW_TRY(check_es(conf));
    SOW_TRY(check_adamw(conf));
    SOW_TRY(check_tau(conf));
    SOW_TRY(check_task(conf, "task", &conf->options.task));
    for (int64_t i = 0; i < conf->options.n_probes; i++) {
        (void)snprintf(prefix, sizeof prefix, "probes[%lld]", (long long)i);
        SOW_TRY(check_task(conf, prefix, &conf->options.probes[i].task));
    }
    return SOW_OK;
}
