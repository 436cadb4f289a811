// NEEDS: base conf train
/* SPDX-License-Identifier: Apache-2.0 */
/* Forges a ledger for test_runs.sh: changes a number in it and makes all chains anew, as someone would who knows that
 * the chain is a checksum.
 *
 *     forge LEDGER fitness GENERATION MEMBER     adds 1/16 to a fitness
 *     forge LEDGER digest GENERATION HEX         puts another digest */
#include "sower/ledger.h"
#include "sower/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sow_code change(sow_ledger *ledger, char **words)
{
    int64_t generation = 0, member = 0;
    if (!sow_words_to_int(words[3], &generation) || generation < 1 || generation > ledger->n)
        return SOW_FAIL(SOW_EARG, "generation %s of %lld", words[3], (long long)ledger->n);
    if (strcmp(words[2], "digest") == 0) {
        sow_hash *digest = &ledger->digests[generation - 1];
        char high[17] = "";
        (void)snprintf(high, sizeof high, "%s", words[4]);
        digest->high = strtoull(high, NULL, 16);
        digest->low = strlen(words[4]) == 32 ? strtoull(words[4] + 16, NULL, 16) : 0;
        if (strlen(words[4]) != 32)
            return SOW_FAIL(SOW_EARG, "%s is no digest", words[4]);
        return SOW_OK;
    }
    if (!sow_words_to_int(words[4], &member) || member < 0 || member >= ledger->population)
        return SOW_FAIL(SOW_EARG, "member %s of %lld", words[4], (long long)ledger->population);
    ledger->fitness[(generation - 1) * ledger->population + member] += 0.0625;
    return SOW_OK;
}

static sow_code write_again(const sow_ledger *ledger)
{
    sow_ledger_writer *writer = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_ledger_create(ledger->path, ledger->header, &writer));
    for (int64_t g = 1; rc == SOW_OK && g <= ledger->n; g++)
        rc = ledger->has_moments
                 ? sow_ledger_write_step(writer, g, ledger->fitness + (g - 1) * ledger->population, ledger->population,
                                         ledger->digests[g - 1], ledger->moments[g - 1])
                 : sow_ledger_write(writer, g, ledger->fitness + (g - 1) * ledger->population, ledger->population,
                                    ledger->digests[g - 1]);
    sow_ledger_close(&writer);
    return rc;
}

int main(int argc, char **argv)
{
    sow_ledger *ledger = NULL;
    if (argc != 5)
        return 2;
    sow_code rc = sow_ledger_read(argv[1], &ledger);
    if (rc == SOW_OK)
        rc = change(ledger, argv);
    if (rc == SOW_OK)
        rc = write_again(ledger);
    if (rc != SOW_OK)
        (void)fprintf(stderr, "forge: %s\n", sow_error_text());
    sow_ledger_destroy(&ledger);
    return rc == SOW_OK ? 0 : 1;
}
