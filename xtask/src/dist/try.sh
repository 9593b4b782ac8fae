# Installs an unpacked archive ($1) into the home folder, and runs a consortium with it.
"$1"/install.sh
PATH=$HOME/.local/bin:$PATH
asyndgan --version
asyndgan reproduce table2 --profile smoke --set data.phantoms_per_site=4 --arms RealAll,AsynDgan --out run
asyndgan keys init --server localhost
asyndgan keys issue north
asyndgan keys issue south
asyndgan init server --profile smoke --out server.toml
sed -i -e 's/0\.0\.0\.0:7443/127.0.0.1:7543/' -e 's|"run"|"consortium"|' server.toml
for site in north south; do
    number=1
    [ $site = south ] && number=2
    asyndgan init site --out $site.toml --server localhost:7543 --bundle keys/sites/$site.pem \
        --data run/prepared/site-$number --folder $site
done
asyndgan server --config server.toml &
asyndgan site --config north.toml &
asyndgan site --config south.toml &
wait
test -f consortium/seed-0/AsynDgan/generator.safetensors
asyndgan journal verify north/journal.jsonl
