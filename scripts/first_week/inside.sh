#!/bin/bash
# The part of scripts/first_week.sh that has a network, processes and a file system of its own.
set -euo pipefail
repository=$PWD
# shellcheck source=scripts/first_week/common.sh
. scripts/first_week/common.sh
# shellcheck source=scripts/first_week/hosts.sh
. scripts/first_week/hosts.sh
# shellcheck source=scripts/first_week/web.sh
. scripts/first_week/web.sh
# shellcheck source=scripts/first_week/database.sh
. scripts/first_week/database.sh
# shellcheck source=scripts/first_week/recipes.sh
. scripts/first_week/recipes.sh
# shellcheck source=scripts/first_week/watch.sh
. scripts/first_week/watch.sh

export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As services have it.
umask 022
trap stop_all EXIT
trap 'exit 1' INT TERM

own_file_system
own_network
package
first_steps
three_gunicorns
database_pair
prometheus_and_alerts
rolling_deploy
fail_over
nginx_with_tls
redis_pair
mariadb_pair
the_end
