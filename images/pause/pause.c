/* Holds a pod's namespaces: waits for the signal to end, and reaps what the pod's containers leave behind where they
 * share this process's namespace of process ids. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

int main(void)
{
    sigset_t awaited;

    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGCHLD);
    /* Blocked, so that none is missed between two waits. */
    if (sigprocmask(SIG_BLOCK, &awaited, NULL) != 0) {
        perror("pause: sigprocmask");
        return 1;
    }

    for (;;) {
        int signal;

        if (sigwait(&awaited, &signal) != 0)
            continue;
        if (signal != SIGCHLD)
            return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
