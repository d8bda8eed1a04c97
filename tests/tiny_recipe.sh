# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# For tests of examples/train, to be sourced: $work/chat.json, a LLaVA-style file about the pictures
# of the examples, and $work/recipe.json, a model so small that an update takes a millisecond.
#   work=FOLDER steps=N; . tiny_recipe.sh [; tiny_recipe TOWERS CONNECTOR]
pictures=$(cd "$(dirname "$0")/../examples/pictures" && pwd)
{
  echo '['
  for i in $(seq 60); do
    n=$((i % 3 + 1))
    [ $i -gt 1 ] && echo ','
    image="\"image\": \"$n.png\", " sign="<image>\\n"
    [ $((i % 5)) = 0 ] && image='' sign=''
    echo "{${image}\"conversations\": [{\"from\": \"human\", \"value\": \"${sign}Which is it, of $i?\"},"
    echo "{\"from\": \"gpt\", \"value\": \"It is picture $n, and question $i.\"}]}"
  done
  echo ']'
} > "$work/chat.json"

# tiny_recipe TOWERS CONNECTOR: with 1 or 2 towers, and the connector of that type
tiny_recipe() {
  local first='{"name": "dino_featurizer", "kind": "dinov2-reg4", "img_size": 32, "patch_size": 16,
       "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2},' connector
  [ "$1" = 1 ] && first=
  connector="{\"type\": \"$2\"}"
  case $2 in *scan*)
    connector="{\"type\": \"$2\", \"n_layer\": 1, \"arch_specifier\": \"gelu-mlp\",
                  \"ssm_cfg\": {\"d_state\": 8, \"headdim\": 8}}" ;;
  esac
  cat > "$work/recipe.json" <<JSON
{
  "model": {
    "vision": [$first
      {"name": "siglip_featurizer", "kind": "siglip", "img_size": 16, "patch_size": 8,
       "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    ],
    "connector": $connector,
    "llm": {"d_model": 16, "n_layer": 2, "ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8}}
  },
  "tokenizer": {"vocabulary": 280},
  "data": {"source": "$work/chat.json", "images": "$pictures"},
  "training": {"steps": $steps, "batch": 4, "micro_batch": 2, "learning_rate": 1e-3, "warmup": 2},
  "run": {"checkpoint_every": 2, "log_every": 1000}
}
JSON
}
tiny_recipe 2 mamba2_scan_connector
