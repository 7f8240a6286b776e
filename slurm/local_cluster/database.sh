# The database below slurmdbd: accounting_storage has no lighter one that sacct can read.

mariadb=(
    mariadbd --no-defaults --user="$(id -un)" --datadir="$root/db" --basedir=/usr --lc-messages-dir=/usr/share/mysql
    --innodb-log-file-size=16M --innodb-buffer-pool-size=32M --innodb-lock-wait-timeout=900
    --innodb-flush-log-at-trx-commit=0
)

# What mariadb-install-db does, which wants programs that mariadb-server-core does not bring.
make_database() {
    mkdir "$root/db"
    {
        # One statement a line.
        echo "CREATE DATABASE mysql;"
        echo "USE mysql;"
        echo "SET @auth_root_socket = NULL;"
        cat /usr/share/mysql/mysql_{system_tables,performance_tables,system_tables_data}.sql
        echo "CREATE DATABASE slurm_acct_db;"
        echo "FLUSH PRIVILEGES;"
        for host in localhost 127.0.0.1; do
            echo "CREATE USER slurm@'$host' IDENTIFIED BY 'slurm';"
            echo "GRANT ALL ON slurm_acct_db.* TO slurm@'$host';"
        done
    } | "${mariadb[@]}" --bootstrap >"$root/log/make_database.log" 2>&1
}

start_database() {
    setsid "${mariadb[@]}" --bind-address=127.0.0.1 --port="$database_port" --socket="$root/run/mysql.sock" \
        --pid-file="$root/run/mariadbd.pid" --log-error="$root/log/mariadbd.log" </dev/null >/dev/null 2>&1 &
}
