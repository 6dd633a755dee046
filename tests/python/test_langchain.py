"""LangChain's OpenAI embedding class, unchanged, sending strings."""

from langchain_openai import OpenAIEmbeddings
from reference import cosine
from service import TEXT

TEXTS = ["A cat sits on a mat.", "A dog barks.", "I lost my bank card."]


def connect(service, **options):
    return OpenAIEmbeddings(
        model=TEXT, base_url=f"{service.url}/v1", api_key="none", check_embedding_ctx_length=False, **options
    )


def test_documents_and_queries_are_embedded(service):
    embeddings = connect(service)
    expected = service.embed(TEXT, TEXTS)
    for vector, known in zip(embeddings.embed_documents(TEXTS), expected, strict=True):
        assert cosine(vector, known) > 0.99999
    assert cosine(embeddings.embed_query(TEXTS[0]), expected[0]) > 0.99999


def test_many_documents_are_sent_in_lists_and_keep_their_order(service):
    documents = [f"Question number {number} about cards." for number in range(50)]
    vectors = connect(service, chunk_size=16).embed_documents(documents)
    for vector, known in zip(vectors, service.embed(TEXT, documents), strict=True):
        assert cosine(vector, known) > 0.99999


def test_dimensions_are_passed_on(service):
    assert len(connect(service, dimensions=64).embed_query("a")) == 64
