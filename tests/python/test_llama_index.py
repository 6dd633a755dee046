"""LlamaIndex's OpenAI-like embedding class, unchanged."""

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from reference import cosine
from service import TEXT

TEXTS = ["A cat sits on a mat.", "A dog barks.", "I lost my bank card."]


def test_texts_and_queries_are_embedded(service):
    embedding = OpenAILikeEmbedding(
        model_name=TEXT, api_base=f"{service.url}/v1", api_key="none", embed_batch_size=2, max_retries=0
    )
    expected = service.embed(TEXT, TEXTS)
    for vector, known in zip(embedding.get_text_embedding_batch(TEXTS), expected, strict=True):
        assert cosine(vector, known) > 0.99999
    assert cosine(embedding.get_query_embedding(TEXTS[1]), expected[1]) > 0.99999
