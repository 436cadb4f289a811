/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/pattern.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include "text_impl.h"

#include "sower/alloc.h"

#include <pcre2.h>

/* Steps of backtracking and kilobytes of heap after which a match gives up: a hostile expression costs a second. */
enum { MATCH_LIMIT = 10000000, HEAP_LIMIT_KB = 65536 };

struct sow_pattern {
    pcre2_code *code;              /* owned */
    pcre2_match_data *match;       /* owned */
    pcre2_match_context *contexts; /* owned */
};

/* pcre2's memory is counted like ours. */
static void *take(PCRE2_SIZE bytes, void *unused)
{
    (void)unused;
    void *block = NULL;
    return sow_alloc(&block, bytes, 1) == SOW_OK ? block : NULL;
}

static void give(void *block, void *unused)
{
    (void)unused;
    sow_free(&block);
}

sow_code sow_pattern_compile(const char *expression, bool is_dotall, sow_pattern **out)
{
    sow_code rc = SOW_OK;
    sow_pattern *p = NULL;
    pcre2_general_context *general = pcre2_general_context_create(take, give, NULL);
    pcre2_compile_context *compile = pcre2_compile_context_create(general);
    if (general == NULL || compile == NULL) {
        rc = SOW_FAIL(SOW_ENOMEM, "no room for a regular expression");
        goto done;
    }
    (void)pcre2_set_newline(compile, PCRE2_NEWLINE_LF);
    SOW_TRY_OR(rc, SOW_ALLOC(&p, 1));
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | (is_dotall ? PCRE2_DOTALL : 0);
    int error = 0;
    PCRE2_SIZE offset = 0;
    p->code = pcre2_compile((PCRE2_SPTR)expression, strlen(expression), options, &error, &offset, compile);
    if (p->code == NULL) {
        PCRE2_UCHAR words[160] = "";
        (void)pcre2_get_error_message(error, words, sizeof words);
        rc = SOW_FAIL(error == PCRE2_ERROR_HEAP_FAILED ? SOW_ENOMEM : SOW_EFORMAT,
                      "the regular expression '%.200s' is wrong at offset %zu: %s", expression, offset, (char *)words);
        goto done;
    }
    p->match = pcre2_match_data_create_from_pattern(p->code, general);
    p->contexts = pcre2_match_context_create(general);
    if (p->match == NULL || p->contexts == NULL) {
        rc = SOW_FAIL(SOW_ENOMEM, "no room for a regular expression");
        goto done;
    }
    (void)pcre2_set_match_limit(p->contexts, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(p->contexts, HEAP_LIMIT_KB);
    *out = p;
    p = NULL;
done:
    sow_pattern_destroy(&p);
    pcre2_compile_context_free(compile);
    pcre2_general_context_free(general);
    return rc;
}

void sow_pattern_destroy(sow_pattern **pattern)
{
    if (*pattern == NULL)
        return;
    pcre2_match_context_free((*pattern)->contexts);
    pcre2_match_data_free((*pattern)->match);
    pcre2_code_free((*pattern)->code);
    SOW_FREE(pattern);
}

bool sow_pattern_find(sow_pattern *pattern, const char *text, size_t bytes, size_t from, int n_groups,
                      int64_t (*groups)[2])
{
    int n = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, from, 0, pattern->match, pattern->contexts);
    if (n < 0)
        return false;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(pattern->match);
    for (int i = 0; i < n_groups; i++) {
        bool is_set = i < n && at[0] != PCRE2_UNSET;
        groups[i][0] = is_set ? (int64_t)at[0] : -1;
        groups[i][1] = is_set ? (int64_t)at[1] : -1;
        at += i < n ? 2 : 0;
    }
    return true;
}

sow_code sow_pattern_search(sow_pattern *pattern, const char *text, size_t bytes, size_t from, bool *is_found,
                            size_t match[2])
{
    int n = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, pattern->match,
                        pattern->contexts);
    *is_found = n >= 0;
    if (n < 0) {
        PCRE2_UCHAR words[160] = "";
        (void)pcre2_get_error_message(n, words, sizeof words);
        if (n != PCRE2_ERROR_NOMATCH)
            return SOW_FAIL(n == PCRE2_ERROR_NOMEMORY ? SOW_ENOMEM : SOW_EFORMAT,
                            "a regular expression gave up on a text of %zu bytes: %s", bytes, (char *)words);
        return SOW_OK;
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(pattern->match);
    match[0] = at[0];
    match[1] = at[1];
    return SOW_OK;
}
