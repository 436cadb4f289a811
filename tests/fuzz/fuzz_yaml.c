// NEEDS: conf
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file and as an argument of --set: they are read or refused with one line; what was read
 * is written and reads back to the same options; no block stays alive. */
#include "fuzz.h"

#include "sower/options.h"

static void check_code(sow_code rc)
{
    if (rc == SOW_OK)
        return;
    FUZZ_CHECK(rc == SOW_ECONF);
    FUZZ_CHECK_MESSAGE();
}

static sow_code count(void *context, const char *key, const char *value)
{
    *(size_t *)context += strlen(key) + strlen(value);
    return SOW_OK;
}

static void check_round_trip(const sow_options *options)
{
    char *text = NULL;
    sow_conf *back = NULL;
    size_t total = 0;
    FUZZ_CHECK(sow_conf_write(options, &text) == SOW_OK);
    FUZZ_CHECK(sow_conf_create(&back) == SOW_OK);
    FUZZ_CHECK(sow_conf_parse(back, text, strlen(text), "back.yaml") == SOW_OK);
    const void *before = options, *after = sow_conf_options(back); /* all bytes count, unused ones too */
    FUZZ_CHECK(memcmp(before, after, sizeof *options) == 0);
    FUZZ_CHECK(sow_conf_result_settings(options, count, &total) == SOW_OK && total > 0);
    sow_conf_destroy(&back);
    SOW_FREE(&text);
}

static void run_file(const char *text, size_t bytes)
{
    sow_conf *conf = NULL;
    FUZZ_CHECK(sow_conf_create(&conf) == SOW_OK);
    sow_code rc = sow_conf_parse(conf, text, bytes, "fuzz.yaml");
    check_code(rc);
    if (rc == SOW_OK) {
        check_round_trip(sow_conf_options(conf));
        check_code(sow_conf_finish(conf, NULL));
    }
    sow_conf_destroy(&conf);
}

/* The text as values of several keys, one after the other. */
static void run_sets(const char *text)
{
    static const char *const prefixes[] = {"", "probes=", "task.template={prompt}", "es.sigma="};
    char assignment[1024];
    sow_conf *conf = NULL;
    FUZZ_CHECK(sow_conf_create(&conf) == SOW_OK);
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        (void)snprintf(assignment, sizeof assignment, "%s%s", prefixes[i], text);
        check_code(sow_conf_set(conf, assignment));
    }
    check_round_trip(sow_conf_options(conf));
    sow_conf_destroy(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = NULL; /* the bytes with a NUL behind them */
    FUZZ_CHECK(SOW_ALLOC(&text, bytes + 1) == SOW_OK);
    if (bytes > 0)
        memcpy(text, data, bytes);
    run_file(text, bytes);
    run_sets(text);
    SOW_FREE(&text);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
