/* SPDX-License-Identifier: Apache-2.0 */
#include "app_impl.h"

#define COMMAND(name) extern const sow_command sow_command_##name;
#include "commands.def"
#undef COMMAND

static const sow_command *const commands[] = {
#define COMMAND(name) &sow_command_##name,
#include "commands.def"
#undef COMMAND
};

int sow_command_count(void)
{
    return (int)(sizeof commands / sizeof commands[0]);
}

const sow_command *sow_command_at(int index)
{
    return commands[index];
}
