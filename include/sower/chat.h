/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: the families' own formats, chosen by detection.  Template code is never run.
 *
 * Needs: tokenizer, words.  Threads: pure functions. */
#ifndef SOWER_CHAT_H
#define SOWER_CHAT_H

#include "sower/tokenizer.h"

struct sow_words;

/* The format's name ("chatml", "llama3") that the text of the template shows by the marks in it or, if that is NULL,
 * the tokens that the tokenizer has; NULL if none is known. */
const char *sow_chat_detect(const sow_tokenizer *tokenizer, const char *template_text);

/* Appends one user turn, wrapped, and the opening of the assistant's.  system may be NULL: no system turn is added,
 * not even one that the family's template would add.  BOS is not added: that is the tokenizer's.  SOW_EARG for an
 * unknown format. */
SOW_NODISCARD sow_code sow_chat_wrap(const char *format, const char *system, const char *user, size_t user_bytes,
                                     struct sow_words *out);

#endif
