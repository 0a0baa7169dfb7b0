#include "signals.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { INTERRUPTED_TWICE = 130 };

/* A signal handler reaches nothing else. */
static _Atomic(tt_training *) active;
static atomic_int received;
static atomic_int interrupts;
static atomic_int handling; /* handlers that are under way, on whatever thread */

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void handle(int signal_number)
{
    int error = errno;
    if (signal_number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0) {
        say("\ntrimtab: ended at once; the last checkpoint is the state to go on from\n");
        _exit(INTERRUPTED_TWICE);
    }
    if (signal_number == SIGINT && isatty(STDERR_FILENO)) {
        say("\ntrimtab: saving after this step; Ctrl-C again ends at once\n");
    }
    int none = 0;
    atomic_fetch_add(&handling, 1);
    tt_training *training = atomic_load(&active);
    if (atomic_compare_exchange_strong(&received, &none, signal_number) && training) {
        tt_training_request_stop(training, signal_number);
    }
    atomic_fetch_sub(&handling, 1);
    errno = error;
}

void cli_signals_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction old;
        struct sigaction new;
        memset(&new, 0, sizeof new);
        new.sa_handler = handle;
        new.sa_flags = SA_RESTART;
        sigemptyset(&new.sa_mask);
        /* A shell starts background jobs with SIGINT ignored; that stays so. */
        if (numbers[i] == SIGINT && sigaction(SIGINT, NULL, &old) == 0 &&
            old.sa_handler == SIG_IGN) {
            continue;
        }
        sigaction(numbers[i], &new, NULL);
    }
}

void cli_signals_attach(tt_training *training)
{
    atomic_store(&active, training);
    while (!training && atomic_load(&handling)) {
        sched_yield(); /* a handler on another thread may still hold the old one */
    }
    int signal_number = atomic_load(&received);
    if (training && signal_number) {
        tt_training_request_stop(training, signal_number);
    }
}
