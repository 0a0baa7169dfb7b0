#include "phases.h"

#include "terminal.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { INTERRUPTED = 130, REDRAW_NS = 100000000 };

static volatile sig_atomic_t interrupted;

static void handle(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void cli_phases_begin(cli_phases *phases)
{
    *phases = (cli_phases){.live = cli_is_live(STDERR_FILENO)};
    (void)signal(SIGINT, handle);  // NOLINT(cert-err33-c)
    (void)signal(SIGTERM, handle); // NOLINT(cert-err33-c)
}

bool cli_phases_stop(void *phases)
{
    (void)phases;
    return interrupted != 0;
}

void cli_phases_end(const cli_phases *phases)
{
    if (phases->live) {
        fputs("\r\x1b[K", stderr);
    }
}

void cli_phases_tell(void *user, const char *phase, int64_t done, int64_t of)
{
    cli_phases *phases = user;
    tt_clock clock = tt_clock_monotonic();
    uint64_t now = tt_clock_now(&clock);
    if (!phases->live || (done > 0 && now - phases->drawn_ns < REDRAW_NS)) {
        return;
    }
    phases->drawn_ns = now;
    cli_phases_end(phases);
    fprintf(stderr, "%s %lld/%lld ...", phase, (long long)done, (long long)of);
    fflush(stderr);
}

static void on_message(void *user, tt_log_level level, const char *message)
{
    if (level >= TT_LOG_WARN) {
        cli_phases_end(user);
        fprintf(stderr, "%s\n", message);
    }
}

const tt_log_sink *cli_phases_log(cli_phases *phases, tt_log_sink *room)
{
    *room = (tt_log_sink){.write = on_message, .user = phases};
    return phases->live ? room : NULL;
}

int cli_phases_code(int code)
{
    return interrupted ? INTERRUPTED : code;
}
